"""What the sites of a run say of their patients, survey.json: the coordinator's look at the data before round
1."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from common import wire
from common.results.form import Number, Result, read, write

FILE = "survey.json"
SiteNumbers = Mapping[str, Number | str]
"""query_numbers of common/wire.py, NaN where too few patients are behind one; and the device."""


@dataclass(frozen=True, kw_only=True)
class Pooled(Result):
    """One number over the sites."""

    patients: int
    sites: int  # that told it


@dataclass(frozen=True, kw_only=True)
class Survey(Result):
    """survey.json."""

    format: Literal["pneumofed-survey-1"] = "pneumofed-survey-1"
    pooled: Mapping[str, Pooled]
    sites: Mapping[str, SiteNumbers]

    @classmethod
    def of(cls, sites: Mapping[str, SiteNumbers], findings: Sequence[str]) -> "Survey":
        """Of what each site said under a plan with these findings."""
        names = wire.query_numbers(tuple(findings))
        return cls(pooled={name: _pool(name, sites) for name in names}, sites=dict(sorted(sites.items())))


def _pool(name: str, sites: Mapping[str, SiteNumbers]) -> Pooled:
    numbers = [float(site[name]) for site in sites.values()]
    told = [number for number in numbers if not math.isnan(number)]
    return Pooled(patients=int(sum(told)), sites=len(told))


def read_survey(folder: Path) -> Survey:
    """Of a run's folder. Raises RunError if there is none, or it is of another version."""
    return read(Survey, folder / FILE, "start another run")


def write_survey(folder: Path, survey: Survey) -> None:
    """Raises OSError."""
    write(folder / FILE, survey)


def add_to_survey(folder: Path, told: Mapping[str, SiteNumbers], findings: Sequence[str]) -> Survey:
    """With what sites told before that are not here now, as after a resume. Raises as the other two."""
    known = read_survey(folder).sites if (folder / FILE).is_file() else {}
    survey = Survey.of({**known, **told}, findings)
    write_survey(folder, survey)
    return survey
