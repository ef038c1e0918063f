"""One model, or two, judged on a part of some labelled data."""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from client.imaging.cohort import is_cohort
from client.prediction.judging.judge import (
    Threshold,
    chosen_here,
    difference,
    judge_finding,
    own_thresholds,
    predictions_of,
    threshold_at,
)
from client.prediction.judging.labelled import Labelled, Part, Place, read_part
from client.prediction.model import load_model
from client.prediction.parts import is_own, own_key
from common.curves import known_of
from common.errors import DataError
from common.handover import Handed
from common.results.evaluation import EvaluationResult, FindingResult
from common.scores import Predictions
from common.text import printable
from common.versions import versions

FEW = 50
"""With fewer patients of a class an interval is wide, and may be too narrow all the same."""


@dataclass(frozen=True)
class Wish:
    """What is asked for beside model and data."""

    part: Part = "test"
    threshold: float | None = None
    own: bool = False
    """The threshold is this hospital's: chosen on its validation patients."""
    at: tuple[str, float] | None = None
    """"sensitivity" or "specificity", and the rate at which the threshold is to be chosen on validation."""


def evaluate(
    handed: Handed, other: Handed | None, place: Place, wish: Wish, device: torch.device
) -> EvaluationResult:
    """Judge `handed` on the labelled patients of a place, and `other` on the same.

    Raises:
        DataError: there is no labelled patient that the model takes, or only one class of every finding.
        ConfigError: as load_model does.
    """
    place = replace(place, key=_shared_key(place, [handed, *([other] if other else [])]))
    # At a site where every start clears what was left of pixels (client/pieces.py).
    beside = place.site.cohorts if place.site and place.site.cohorts.is_dir() else None
    with tempfile.TemporaryDirectory(prefix=".evaluate-", dir=beside) as work:
        judged = _Judged(handed, place, device, Path(work))
        labelled, doubts = judged.part(wish.part), list[str]()
        if other is not None:
            second = judged.other(other)
            theirs = second.part(wish.part)
            labelled = _in_both(labelled, theirs, place.path)
        found = judged.predictions(labelled)
        thresholds = _thresholds(judged, wish, set(found.patients.tolist()))
        findings = {
            name: judge_finding(known_of(found, k), handed, thresholds[name])
            for k, name in enumerate(handed.plan.findings)
        }
        if not any(np.isfinite(one.auroc) for one in findings.values()):
            raise DataError(f"{place.path}: {_classes(findings)}: expected patients of both classes")
        if other is not None:
            findings = _against(findings, found, handed, other, second.predictions(theirs))
            if theirs.n_training is None:
                doubts.append(
                    f"whether {other.plan.name} (against) was trained on any of them is not known here"
                )
    return EvaluationResult(
        model=handed.plan.name, plan_sha256=handed.plan.sha256, against=other.plan.name if other else None,
        on=printable(place.path.name or "."), part=labelled.part, n_patients=len(set(found.patients)),
        n_sequences=len(found.patients), n_training=labelled.n_training,
        left_out=labelled.cohort.tally.left_out(), temperature=handed.temperature,
        warnings=[*_warnings(labelled, findings), *doubts], findings=findings, versions=versions(),
    )  # fmt: skip


def _shared_key(place: Place, models: list[Handed]) -> bytes:
    """Patients have the same pseudonyms for two models, of which one's run knows them.

    Raises:
        DataError: both runs know them, by other pseudonyms.
    """
    if is_cohort(place.path):
        return place.key  # it has them
    own = {own_key(model, place.site) for model in models if is_own(model, place.path, place.site)}
    if len(own) > 1:
        seeds = " and ".join(str(model.plan.seed) for model in models)
        raise DataError(
            f"{place.path}: the two runs split these patients by other seeds ({seeds}): whom both may be "
            "judged on is not known; judge them one by one"
        )
    return own.pop() if own else place.key


def _in_both(labelled: Labelled, theirs: Labelled, path: Path) -> Labelled:
    """Without patients whom the other model's plan keeps out of the part that is judged."""
    judged, known = (theirs.cohort.patients[i] for i in (theirs.indices, np.arange(len(theirs.cohort))))
    patients = labelled.cohort.patients[labelled.indices]
    kept = labelled.indices[np.isin(patients, judged) | ~np.isin(patients, known)]
    if len(kept) == 0:
        raise DataError(f"{path}: no patient is in the part of both models that is judged")
    part = labelled.part if labelled.part != "all" else theirs.part
    return replace(labelled, indices=kept, part=part)


class _Judged:
    """One model and the data that it is judged on; each is opened once."""

    def __init__(self, handed: Handed, place: Place, device: torch.device, work: Path) -> None:
        self.handed, self.place, self._device, self._work = handed, place, device, work
        self._network = load_model(handed, device, place.site)

    def part(self, part: Part) -> Labelled:
        return read_part(self.handed, self.place, part, self._work / part)

    def predictions(self, labelled: Labelled) -> Predictions:
        return predictions_of(self.handed, self._network, labelled, self._device)

    def other(self, handed: Handed) -> "_Judged":
        return _Judged(handed, self.place, self._device, self._work / "other")


SAME = "which are the ones that are judged: the rates flatter"
"""Where data have no validation patients of their own, as those of another hospital."""


def _thresholds(judged: _Judged, wish: Wish, tested: set[str]) -> dict[str, Threshold]:
    """Of each finding; `tested` are the patients who are judged."""
    names = judged.handed.plan.findings
    if wish.threshold is not None:
        return dict.fromkeys(names, Threshold(wish.threshold, "given"))
    if wish.at is None and not wish.own:
        return own_thresholds(judged.handed)
    validation = judged.predictions(judged.part("validation"))
    if wish.at is None:
        return {name: chosen_here(validation, k, judged.handed.plan) for k, name in enumerate(names)}
    what, rate = wish.at
    chosen = {name: threshold_at(validation, k, rate, what) for k, name in enumerate(names)}
    if wish.part == "test" and not tested.isdisjoint(validation.patients.tolist()):
        return {name: replace(one, source=f"{one.source}, {SAME}") for name, one in chosen.items()}
    return chosen


def _against(
    findings: dict[str, FindingResult], found: Predictions, handed: Handed, other: Handed, theirs: Predictions
) -> dict[str, FindingResult]:
    """With the difference to the other model, in each finding that both know."""
    common = [name for name in findings if name in other.plan.findings]
    if not common:
        raise DataError(
            f"{other.folder}: knows {', '.join(other.plan.findings)}; the model knows {', '.join(findings)}"
        )
    theirs = theirs.where(np.isin(theirs.patients, found.patients))  # who are new to it are all in its part
    ours, columns = handed.plan.findings, other.plan.findings
    return {
        name: replace(
            one,
            against=difference(
                known_of(found, ours.index(name)), known_of(theirs, columns.index(name)), handed
            ),
        )
        if name in common
        else one
        for name, one in findings.items()
    }


def _classes(findings: dict[str, FindingResult]) -> str:
    return "; ".join(f"{name}: {one.who}" for name, one in findings.items())


def _warnings(labelled: Labelled, findings: dict[str, FindingResult]) -> list[str]:
    said = []
    if labelled.n_training:
        said.append(
            f"{labelled.n_training} of the patients are training patients of this run: the numbers flatter"
        )
    if labelled.n_training is None:
        said.append("whether the model was trained on any of these patients is not known here")
    for name, one in findings.items():
        if one.fewer == 0:
            said.append(f"{name}: one class only: no AUROC")
        elif one.fewer < FEW:
            said.append(
                f"{name}: {one.fewer} patients in the smaller class: the interval says how little that tells"
            )
        if one.threshold_from == "nobody chose one":
            said.append(f"{name}: nobody chose a threshold, 0.5 is taken (see --at-sensitivity)")
    return said
