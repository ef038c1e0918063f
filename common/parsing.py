"""Texts of others, read so that no text can end the program."""

import json


def parse_json(text: str | bytes) -> object:
    """What a JSON text says. Raises ValueError for any other, and for one that is nested too deeply."""
    try:
        tree: object = json.loads(text)
        return tree
    except RecursionError:
        raise ValueError("nested too deeply") from None
