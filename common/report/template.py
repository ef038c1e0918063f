"""A template and values -> one self-contained page, with numbers as people read them."""

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, StrictUndefined, Template

from common.advice import what_would_settle
from common.arms import arm_name
from common.report.tables import stacking
from common.results.form import Interval

STYLE = Path(__file__).with_name("every_page.css")


def render(template: Path, **values: object) -> str:
    """The page: nothing in it comes from elsewhere. A name that is not known is an error."""
    return stacking(_compiled(template).render(**values))


def render_text(template: str, **values: object) -> str:
    """Plain text, in which nothing is escaped: for what a page, or a person, takes as text."""
    return _environment(autoescape=False).from_string(template).render(**values)


@functools.cache
def _compiled(template: Path) -> Template:
    """It takes longer than filling it in."""
    style = STYLE.read_text(encoding="utf-8")
    text = template.read_text(encoding="utf-8").replace("</style>", f"{style}</style>", 1)
    return _environment(autoescape=True).from_string(text)


def _environment(*, autoescape: bool) -> Environment:
    environment = Environment(autoescape=autoescape, undefined=StrictUndefined)  # noqa: S701 - text is escaped later
    environment.trim_blocks = environment.lstrip_blocks = True
    filters = (
        number, interval, percent, p_value, duration, human_bytes, arm_name, best_at, mean_known, tellers,
    )  # fmt: skip
    environment.filters["what_would_settle"] = what_would_settle
    environment.filters |= {one.__name__: one for one in filters}
    environment.tests["known"] = is_known
    return environment


def is_known(value: float | None) -> bool:
    """Whether there is a number, and it is defined."""
    return value is not None and math.isfinite(value)


def number(value: float | None, form: str = ".3f") -> str:
    """0.912, or n/a."""
    return "n/a" if value is None or not math.isfinite(value) else f"{value:{form}}"


def interval(ends: Interval) -> str:
    """0.870 – 0.944; nothing, if it is not defined. No resample of a few patients who are all ranked right
    differs from another: that is no certainty."""
    low, high = ends
    if not (is_known(low) and is_known(high)):
        return ""
    return f"{low:.3f} – {high:.3f}" if high > low else TOO_FEW


TOO_FEW = "too few to say"


def percent(value: float) -> str:
    """35 %, or n/a."""
    return f"{100 * value:.0f} %" if is_known(value) else "n/a"


def p_value(p: float) -> str:
    """0.031, < 0.001, or nothing."""
    return "" if not is_known(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def duration(seconds: float) -> str:
    """45.0 s, 3.2 min or 2.5 h."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def human_bytes(n: float) -> str:
    """12.3 MB, in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1000
    return f"{n:.1f} TB"


def best_at(matrix: Mapping[str, Mapping[str, float]], site: str) -> float:
    """The highest AUROC of any model at a site; NaN if none is defined."""
    return max((row[site] for row in matrix.values() if is_known(row[site])), default=math.nan)


def mean_known(values: Iterable[float]) -> float:
    """Of the numbers that are defined; NaN if none is."""
    known = [value for value in values if is_known(value)]
    return sum(known) / len(known) if known else math.nan


def tellers(told: Mapping[str, Sequence[str]], n: int) -> str:
    """2 of 3 hospitals by sex (north, south); the others told none. `told` has them by attribute, of `n`."""
    by = [f"{len(sites)} of {n} hospitals by {name} ({', '.join(sites)})" for name, sites in told.items()]
    return f"{', '.join(by)}; the others told none"
