"""Texts that would move, hide or overwrite what a person sees."""

HOSTILE = [
    "\x1b[2K\rseed: 0 -> 1",
    "\x9b2J",
    "a\u202eb",
    "a\u200bb",
    "a\nb",
    "a\u2028b",
    "\u2066x",
    "\ufeff",
    "\x00",
    "\x7f",
]
