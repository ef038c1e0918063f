"""What a run asks of its plan: whether it may start, and which rounds are judged."""

from common.errors import ConfigError
from common.plan.plan import Plan


def require_current(plan: Plan) -> None:
    """Before a run: what was agreed on with an earlier version can be read, and its models used; but no run
    starts, or goes on, by a rule that is gone.

    Raises:
        ConfigError: says what to set.
    """
    if plan.evaluation.threshold == "accuracy":
        raise ConfigError(
            "evaluation.threshold: accuracy is gone, it calls nobody, or everybody, where one class is rare: "
            "set youden, or sensitivity with evaluation.sensitivity"
        )


def evaluates(plan: Plan, number: int) -> bool:
    """Whether the sites judge the global model after round `number`: under privacy, where a patient pays for
    each time, after the last one alone, and if the plan says so (common/soft_counts.py)."""
    if plan.privacy is not None:
        return plan.privacy.threshold and number == plan.rounds
    every = plan.evaluation.every
    due = every > 0 and (number % every == 0 or number == plan.rounds)
    return due and number > 0 and plan.split.validation > 0
