"""When an image was taken.

Witnesses: AcquisitionDateTime, then date and time of acquisition, content, series and study. The first that
says a date or a time of day counts; what it lacks is taken from the next that has it (a time of day only from
the same day). A UTC offset stands in AcquisitionDateTime or in TimezoneOffsetFromUTC.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta

from pydicom import Dataset

from client.imaging.facts.text import text

FIRST_YEAR = 1901
"""Dates before are placeholders (19000101, 00010101)."""
DISAGREE = timedelta(days=7)
"""An examination takes no longer: dates further apart are not of one."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A time of the place, and what is known of it."""

    local: datetime
    offset: int | None  # minutes east of UTC; None where nothing says it
    timed: bool  # False: without a time of day, it stands for midnight
    exact: bool  # the acquisition's own time of day, which two exposures cannot share
    agreed: bool  # no other date of the file is more than DISAGREE from it


@dataclass(frozen=True)
class _Witness:
    day: date | None
    clock: time | None
    offset: int | None = None
    of_acquisition: bool = False
    to_the_second: bool = False


def acquisition_moment(ds: Dataset) -> Moment | None:
    """None without a usable date."""
    told = [
        witness for witness in _without_placeholders(list(_witnesses(ds))) if witness.day or witness.clock
    ]
    if not told or not any(witness.day for witness in told):
        return None
    first, *others = told
    day, clock = first.day, first.clock
    if day is None:
        day = _day_of(clock, others)
    elif clock is None:
        clock = next((w.clock for w in others if w.clock and w.day in (None, day)), None)
    days = [w.day for w in told if w.day]
    offset = first.offset if first.offset is not None else parse_offset(text(ds, "TimezoneOffsetFromUTC"))
    return Moment(
        datetime.combine(day, clock or time()),
        offset=offset,
        timed=clock is not None,
        exact=first.of_acquisition and first.to_the_second,
        agreed=max(days) - min(days) <= DISAGREE,
    )


def _without_placeholders(witnesses: list[_Witness]) -> list[_Witness]:
    """Midnight to the second is no time of day where another witness of the day says another one."""

    def is_contradicted(one: _Witness) -> bool:
        return one.clock == time() and any(
            other.clock not in (None, time()) and (other.day or one.day) == one.day for other in witnesses
        )

    return [replace(w, clock=None, to_the_second=False) if is_contradicted(w) else w for w in witnesses]


def _witnesses(ds: Dataset) -> Iterable[_Witness]:
    stamp = text(ds, "AcquisitionDateTime")
    of_day, offset = _split_offset(stamp[8:])
    yield _Witness(parse_date(stamp[:8]), parse_clock(of_day), offset, True, _tells_seconds(of_day))
    for kind in ("Acquisition", "Content", "Series", "Study"):
        day, told = parse_date(text(ds, f"{kind}Date")), text(ds, f"{kind}Time")
        yield _Witness(day, parse_clock(told), None, kind == "Acquisition", _tells_seconds(told))


def _tells_seconds(clock: str) -> bool:
    return parse_clock(clock) is not None and len(re.sub(r"\D", "", clock)) >= len("HHMMSS")


def _day_of(clock: time | None, others: list[_Witness]) -> date:
    """The first date that is told; a day later if midnight came between its own time of day and this one."""
    other = next(w for w in others if w.day)
    assert other.day is not None
    if clock and other.clock:
        back = datetime.combine(other.day, other.clock) - datetime.combine(other.day, clock)
        if back > timedelta(hours=12):
            return other.day + timedelta(days=1)
    return other.day


def parse_date(value: str) -> date | None:
    """DICOM DA, YYYYMMDD or the old YYYY.MM.DD; None for anything else (a month is no day), and for
    placeholders."""
    match = re.fullmatch(r"([0-9]{4})(\.?)([0-9]{2})\2([0-9]{2})", value.strip())
    if match is None:
        return None
    try:
        day = date(int(match[1]), int(match[3]), int(match[4]))
    except ValueError:
        return None
    return day if day.year >= FIRST_YEAR else None


def parse_clock(value: str) -> time | None:
    """DICOM TM, HH[MM[SS[.FFFFFF]]] or the old HH:MM:SS; a leap second is the one before. None for anything
    else."""
    value = value.strip()
    if re.fullmatch(r"\d\d:\d\d(:\d\d(\.\d{1,6})?)?", value):
        value = value.replace(":", "")
    match = re.fullmatch(r"(\d\d)(?:(\d\d)(?:(\d\d)(?:\.(\d{1,6}))?)?)?", value)
    if match is None:
        return None
    hour, minute, second, fraction = match.groups(default="0")
    try:
        return time(int(hour), int(minute), min(int(second), 59), int(fraction.ljust(6, "0")))
    except ValueError:
        return None


def _split_offset(value: str) -> tuple[str, int | None]:
    clock, sign, digits = re.fullmatch(r"([^+-]*)([+-]?)(.*)", value, re.DOTALL).groups()  # type: ignore[union-attr]
    return clock, parse_offset(sign + digits)


def parse_offset(value: str) -> int | None:
    """Minutes of &ZZXX (PS3.5: -1200 to +1400); None for anything else."""
    match = re.fullmatch(r"([+-])(\d\d):?(\d\d)", value.strip())
    if match is None or int(match[3]) > 59:
        return None
    minutes = (1 if match[1] == "+" else -1) * (60 * int(match[2]) + int(match[3]))
    return minutes if -720 <= minutes <= 840 else None
