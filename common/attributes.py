"""What a cohort keeps of a sequence beside its images, to look at subgroups: its scanner, and words from
these lists alone."""

ATTRIBUTES = ("scanner", "sex", "age", "view")
"""Each of the sequence's last image."""
SEXES = ("F", "M", "O", "unknown")
AGES = ("0-19", "20-39", "40-59", "60-79", "80+", "unknown")
"""Years, in bands that many patients share."""
VIEWS = ("frontal", "other", "unknown")
OUR_WORDS = frozenset(word.lower() for words in (SEXES, AGES, VIEWS) for word in words)
"""They stand in every cohort, and name nobody even where a file calls its patient Unknown."""
GROUPS = {"sex": SEXES, "age": AGES, "view": VIEWS}
"""Attributes whose groups may be told: their words are agreed, and no scanner's name is among them."""
