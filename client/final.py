"""What a hospital tells of a run's last model at the end (common/results/final.py), and of models that other
hospitals trained alone."""

import numpy as np

from common.attributes import GROUPS
from common.errors import RefusedError
from common.plan import Plan
from common.results.final import FinalAnswer
from common.scores import Predictions, choose_thresholds, gain, judge, macro_auroc
from common.spread import MOST, Spread

Spreads = dict[str, Spread]
"""By finding."""


def answer_finally(
    plan: Plan,
    validation: Predictions,
    test: Predictions,
    alone: tuple[Predictions, Predictions] | None,
    least: int,
) -> FinalAnswer:
    """From the last model's predictions, and the same two of the model that the hospital trained alone. No
    number has fewer than `least` patients behind it.

    Raises:
        RefusedError: it would have.
    """
    told = _spreads(plan, test, least)
    if told is None or len(set(test.patients.tolist())) < least:
        raise RefusedError(
            f"fewer than {least} test patients are of a class: this site's final scores stay here"
        )
    if max(len(test.patients), len(validation.patients)) > MOST:
        raise RefusedError(
            f"more than {MOST} test or validation sequences: this site's final scores stay here"
        )
    return FinalAnswer(
        federated=judge(test, plan, choose_thresholds(validation, plan)),
        alone=judge(alone[1], plan, choose_thresholds(alone[0], plan)) if alone else None,
        gain=gain(test, alone[1], plan) if alone else None,
        validation=_spreads(plan, validation, least)
        or {f: Spread(positive=(), negative=()) for f in plan.findings},
        test=told,
        subgroups={name: groups for name in GROUPS if (groups := _groups(plan, test, name, least))},
    )


def auroc_told(plan: Plan, test: Predictions, least: int) -> float:
    """Of another hospital's model: the mean over findings. Raises RefusedError where a class has fewer than
    `least` patients."""
    if _spreads(plan, test, least) is None:
        raise RefusedError(f"fewer than {least} test patients are of a class: no model is judged on them")
    return macro_auroc(test)


def _spreads(plan: Plan, predictions: Predictions, least: int) -> Spreads | None:
    """None if those of one finding cannot be told."""
    told: Spreads = {}
    for k, finding in enumerate(plan.findings):
        some = predictions.probabilities[:, k], predictions.labels[:, k], predictions.patients
        spread = Spread.of(*some, least)
        if spread is None:
            return None
        told[finding] = spread
    return told


def _groups(plan: Plan, test: Predictions, attribute: str, least: int) -> dict[str, Spreads]:
    """Group -> its spreads; empty if a group is too small, as what is left out could be worked out from the
    rest."""
    values = test.attributes[attribute]
    names = [name for name in GROUPS[attribute] if (values == name).any()]
    told = {name: _spreads(plan, test.where(values == name), least) for name in names}
    whole = {name: spreads for name, spreads in told.items() if spreads is not None}
    return whole if len(whole) == len(names) > 1 and np.isin(values, names).all() else {}
