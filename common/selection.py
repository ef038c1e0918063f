"""Which round's weights a run hands over: the last one's, or the best on all validation patients together;
and when nothing better is waited for any more."""

import math
from collections.abc import Mapping

from common.plan import Plan, evaluates
from common.results.rounds import Evaluation, History

Losses = Mapping[int, float]
"""Round -> pooled validation loss (mean cross-entropy); NaN where no site told one."""


def losses_of(history: History) -> Losses:
    """Of the rounds that were evaluated."""
    return {report.round: report.evaluation.loss for report in history if report.evaluation}


def chosen_round(plan: Plan, losses: Losses, last: int) -> int:
    """The round whose weights are the run's result, with `last` rounds done: by `evaluation.select`, of
    equals the first."""
    known = {number: loss for number, loss in losses.items() if math.isfinite(loss) and number <= last}
    if plan.evaluation.select == "last" or not known:
        return last
    return min(known, key=lambda number: (known[number], number))


def goes_on(plan: Plan, losses: Losses, last: int) -> bool:
    """Whether a round follows round `last`: the plan has one, and `evaluation.patience` is not over."""
    patience = plan.evaluation.patience
    if last >= plan.rounds or patience is None:
        return last < plan.rounds
    best = chosen_round(plan, losses, last)
    return sum(best < number <= last for number in losses) < patience


def may_be_chosen(plan: Plan, number: int) -> bool:
    """Whether round `number` can be the one whose weights are the result: what a site may be asked to judge
    at the end."""
    return number == plan.rounds or (plan.evaluation.select == "best" and evaluates(plan, number))


def evaluation_of(history: History, number: int) -> Evaluation | None:
    """What the sites said of the weights after round `number`."""
    return next((report.evaluation for report in history if report.round == number), None)
