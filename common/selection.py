"""Which round's weights a run hands over: the last one's, or the best on the sites' validation patients; and
when nothing better is waited for any more.

A round is better than another if the sites that judged both say so: the median over sites of their
differences in loss, weighted by patients, is below zero. A mean would let one site that lies about its loss
choose the round, or end the run; and where a site with hard patients misses a round, the mean of the rest
would call that round better.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from common import wire
from common.plan import Plan, evaluates
from common.results.rounds import Evaluation, History
from common.shares import FEWEST, largest_weight

SHARE = 1 / 3
"""No site has more of the weight where three or more judge: no median is one site's word."""


class Verdict(NamedTuple):
    """One site's, of the weights after a round."""

    loss: float  # mean cross-entropy on its validation patients
    patients: float = 1.0


Verdicts = Mapping[int, Mapping[str, Verdict]]
"""Round -> site -> what it said, of the rounds that were judged."""


def verdicts_of(history: History) -> Verdicts:
    """Of the rounds that were evaluated. A loss that is not defined is no verdict."""
    return {
        report.round: {
            site: Verdict(numbers[wire.LOSS], numbers[wire.N_EXAMPLES])
            for site, numbers in report.evaluation.sites.items()
            if math.isfinite(numbers.get(wire.LOSS, math.nan))  # under privacy no site tells it
        }
        for report in history
        if report.evaluation
    }


def chosen_round(plan: Plan, verdicts: Verdicts, last: int) -> int:
    """The round whose weights are the run's result, with `last` rounds done: by `evaluation.select`; of
    equals the first."""
    known = [number for number, said in sorted(verdicts.items()) if said and number <= last]
    if plan.evaluation.select == "last" or not known:
        return last
    best = known[0]
    for number in known[1:]:
        if _is_better(verdicts[number], verdicts[best]):
            best = number
    return best


def goes_on(plan: Plan, verdicts: Verdicts, last: int) -> bool:
    """Whether a round follows round `last`: the plan has one, and `evaluation.patience` is not over."""
    patience = plan.evaluation.patience
    if last >= plan.rounds or patience is None:
        return last < plan.rounds
    best = chosen_round(plan, verdicts, last)
    return sum(best < number <= last for number in verdicts) < patience


def _is_better(new: Mapping[str, Verdict], old: Mapping[str, Verdict]) -> bool:
    both = sorted(new.keys() & old.keys())
    changes = [new[site].loss - old[site].loss for site in both]
    weights = [min(new[site].patients, old[site].patients) for site in both]
    if len(both) < FEWEST:  # nobody could say which of two lies
        return sum(weight * change for weight, change in zip(weights, changes, strict=True)) < 0.0
    cap = largest_weight(weights, SHARE)
    return weighted_median(changes, [min(weight, cap) for weight in weights]) < 0.0


def weighted_median(values: Sequence[float], weights: Sequence[float]) -> float:
    """The value below and above which there is at most half of the weight; the middle of two where it is
    parted exactly."""
    half, below = sum(weights) / 2.0, 0.0
    ordered = sorted(zip(values, weights, strict=True))
    for at, (value, weight) in enumerate(ordered):
        below += weight
        if math.isclose(below, half) and at + 1 < len(ordered):
            return (value + ordered[at + 1][0]) / 2.0
        if below > half:
            return value
    return ordered[-1][0]


def may_be_chosen(plan: Plan, number: int) -> bool:
    """Whether round `number` can be the one whose weights are the result: what a site may be asked to judge
    at the end."""
    return number == plan.rounds or (plan.evaluation.select == "best" and evaluates(plan, number))


def evaluation_of(history: History, number: int) -> Evaluation | None:
    """What the sites said of the weights after round `number`."""
    return next((report.evaluation for report in history if report.round == number), None)
