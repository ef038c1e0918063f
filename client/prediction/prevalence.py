"""Probabilities for the patients of this hospital, among whom a finding is more or less frequent than among
those that the model was judged on (common/prevalence.py). Whom it calls stays: its thresholds were chosen on
rates within the classes, which label shift does not touch."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from client.prediction.cases import Refusal
from client.prediction.predict import Prediction, entropy_bits, rounded
from common.calibration import calibrate
from common.errors import ConfigError, DataError
from common.handover import Handed
from common.prevalence import Prevalence, Reference, corrected, estimated
from common.seeds import numpy_generator

ESTIMATE = "estimate"
FEW = 50
"""Patients. With fewer an estimate says little, and its interval may be too narrow all the same."""
WIDE = 0.4
"""Of an estimate's interval: probabilities for one end of it and for the other have little in common."""


@dataclass(frozen=True)
class Asked:
    """Of one finding."""

    reference: Reference
    value: float | None  # None: to be estimated


@dataclass(frozen=True)
class Shift:
    """What became of one finding's probabilities."""

    asked: Asked
    found: Prevalence | None  # None: it was given
    threshold: float | None
    """The model's, on the probabilities that are written; None where nobody chose one."""
    doubts: tuple[str, ...]

    @property
    def now(self) -> float | None:
        """The prevalence that the probabilities are for; None: the model's own, as nothing better is
        known."""
        if self.found is None:
            return self.asked.value
        return None if self.found.is_flat or self.found.is_at_edge else self.found.estimate.value

    def told(self) -> dict[str, object]:
        """As predictions.json has it."""
        row: dict[str, object] = {
            "before": self.asked.reference.prevalence, "now": self.now, "threshold": self.threshold,
            "doubts": list(self.doubts),
        }  # fmt: skip
        if self.found is not None:
            one, n = self.found.estimate, self.found.n_patients
            row |= {"estimate": one.value, "estimate_ci": list(one.interval), "n_patients": n}
        return row


def asked(texts: Sequence[str], handed: Handed) -> Mapping[str, Asked]:
    """Finding -> what was asked for by `P`, `estimate`, or either after `FINDING=`.

    Raises:
        ConfigError: it is none of these, or the model does not tell for which prevalence its probabilities
        are.
    """
    findings, wishes = handed.plan.findings, dict[str, float | None]()
    for text in texts:
        name, _, value = text.rpartition("=")
        names = (name,) if name else findings if value == ESTIMATE or len(findings) == 1 else ()
        if not names or any(one not in findings or one in wishes for one in names):
            raise ConfigError(
                f"--prevalence {text[:40]!r}: expected FINDING=P or FINDING={ESTIMATE}, each once; the "
                f"model has {', '.join(findings)}"
            )
        wishes |= dict.fromkeys(names, _share(value))
    return {finding: Asked(_reference(handed, finding), value) for finding, value in wishes.items()}


def _share(text: str) -> float | None:
    if text == ESTIMATE:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 < value < 1.0:
        raise ConfigError(
            f"--prevalence: found {text[:40]!r}, expected a share above 0 and below 1, or {ESTIMATE}"
        )
    return value


def _reference(handed: Handed, finding: str) -> Reference:
    bins = handed.calibration.get(finding, ())
    reference = Reference.of(bins, handed.temperature) if bins else None
    if reference is None or not 0 < reference.n_positive < reference.n:
        raise ConfigError(
            f"{handed.folder}: does not tell how frequent {finding} was where it was judged, which a "
            "correction begins with: expected a card, or a run, with scores of test patients of both classes "
            "(evaluation.final)"
        )
    return reference


def for_prevalence(
    handed: Handed, rows: Sequence[Prediction | Refusal], wishes: Mapping[str, Asked]
) -> tuple[list[Prediction | Refusal], Mapping[str, Shift]]:
    """The rows with probabilities for the prevalence that was asked for; it is estimated on patients whom the
    model was not trained on.

    Raises:
        DataError: there are none.
    """
    told = [row for row in rows if isinstance(row, Prediction)]
    shifts = {finding: _shift(handed, finding, told, wish) for finding, wish in wishes.items()}
    moved = [_moved(handed, row, shifts) if isinstance(row, Prediction) else row for row in rows]
    return moved, shifts


def _shift(handed: Handed, finding: str, rows: Sequence[Prediction], wish: Asked) -> Shift:
    before = wish.reference.prevalence
    found = _estimate(handed, finding, rows, wish.reference) if wish.value is None else None
    shift = Shift(wish, found, None, tuple(_doubts(handed, finding, wish.reference, found)))
    if (cut := handed.thresholds.get(finding)) is None:
        return shift
    own = calibrate(np.array([cut]), handed.temperature)
    written = own if shift.now is None else corrected(own, before, shift.now)
    return replace(shift, threshold=float(written[0]))


def _estimate(handed: Handed, finding: str, rows: Sequence[Prediction], reference: Reference) -> Prevalence:
    strangers = [row for row in rows if row.part != "train"]
    if not strangers:
        raise DataError(
            f"--prevalence {ESTIMATE}: all {len(rows)} sequences are training patients, of whom the model "
            "is surer than of others; expected others"
        )
    k = handed.plan.findings.index(finding)
    p = np.array([row.probabilities[k] for row in strangers])
    rng = numpy_generator(handed.plan.seed, "prevalence", finding)
    patients = np.array([row.patient for row in strangers])
    return estimated(p, patients, reference, handed.plan.evaluation.bootstrap, rng)


def _doubts(handed: Handed, finding: str, reference: Reference, found: Prevalence | None) -> Iterator[str]:
    if not math.isfinite(handed.temperature):
        yield "the model is not calibrated (no temperature): neither are these probabilities"
    if reference.is_off:
        yield (
            f"of its own {reference.n} test sequences the model expects {reference.predicted:.0%} to have "
            f"{finding}, {reference.prevalence:.0%} have it: that error goes along"
        )
    if handed.plan.evaluation.threshold == "accuracy" and finding in handed.thresholds:
        yield "the threshold makes the fewest errors at the model's own prevalence, and more at another"
    if found is None:
        return
    if found.n_patients < FEW:
        yield f"{found.n_patients} patients: too few to rely on ({FEW} are few)"
    low, high = found.estimate.interval
    if high - low > WIDE:
        yield f"the estimate may as well be {low:.0%} or {high:.0%}"
    if found.is_flat:
        yield "all or none having it is as likely: the model does not tell these patients apart"
    if found.is_at_edge:
        yield f"the estimate says that {'none' if found.estimate.value < 0.5 else 'all'} of them have it"
    if found.is_flat or found.is_at_edge:
        yield "probabilities are left as they were"


def _moved(handed: Handed, row: Prediction, shifts: Mapping[str, Shift]) -> Prediction:
    p, bits = list(row.probabilities), list(row.uncertainties)
    for k, finding in enumerate(handed.plan.findings):
        shift = shifts.get(finding)
        if shift is not None and shift.now is not None:
            moved = corrected(np.array([p[k]]), shift.asked.reference.prevalence, shift.now)
            (p[k],), (bits[k],) = rounded(moved), rounded(entropy_bits(moved))
    prevalences = tuple(shift.now if (shift := shifts.get(f)) else None for f in handed.plan.findings)
    return replace(row, probabilities=tuple(p), uncertainties=tuple(bits), prevalences=prevalences)
