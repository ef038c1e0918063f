"""What the commands ask of their options beyond what their library checks."""

import math

import typer


def a_number(value: float | None) -> float | None:
    """Of an option in a range: NaN is below and above none.

    Raises:
        BadParameter: it is NaN.
    """
    if value is not None and math.isnan(value):
        raise typer.BadParameter("found nan, expected a number")
    return value
