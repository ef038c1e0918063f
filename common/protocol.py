"""What server and sites say of themselves when they meet: the program's version, and the protocol that it
speaks.

A protocol is a number that grows when a message changes so that a program of before would misread it. Two
programs work together in one run if theirs are next to each other. A program of before there were numbers
speaks the first.
"""

from collections.abc import Mapping

from common.text import printable

PROTOCOL = 2
"""Ours. 2: `evaluate.final`."""
FLEET = "/v1/fleet"
"""Under which the calls of Flower's Fleet API lie."""
VERSION_HEADER, PROTOCOL_HEADER = "pneumofed-version", "pneumofed-protocol"
WAIT_HEADER = "pneumofed-wait"
"""For how many seconds a site would have the server wait for a message before it says that there is none."""


def program() -> str:
    """Our version."""
    from importlib.metadata import version  # a tenth of what `--help` takes

    return version("pneumofed")


def headers() -> dict[str, str]:
    """Ours, for every request and answer."""
    return {VERSION_HEADER: program(), PROTOCOL_HEADER: str(PROTOCOL)}


def version_of(theirs: Mapping[str, str]) -> str:
    """The other program's version, fit to be shown."""
    return printable(theirs.get(VERSION_HEADER, "") or "0.1.0 or older", 20)


def objection(theirs: Mapping[str, str], other: str, ourselves: str) -> str | None:
    """Why the other program, `other`, cannot work with ours, in one line that says who must upgrade; None if
    it can."""
    text = theirs.get(PROTOCOL_HEADER, "") or "1"
    number = int(text) if text.isdecimal() and len(text) < 6 else 0
    if number >= 1 and abs(number - PROTOCOL) <= 1:
        return None
    late = other if number < PROTOCOL else ourselves
    they = f"{other} runs pneumofed {version_of(theirs)} (protocol {printable(text, 8)})"
    return f"{they}, {ourselves} {program()} (protocol {PROTOCOL}): {late} must upgrade"
