"""What a run of a plan with privacy would cost this site's patients: told before somebody approves it, not in
round 1."""

from dataclasses import dataclass

from client.governance.accounting import RoundCost, epsilon
from client.governance.witness import known_ledger
from client.imaging.cohort import Cohort
from client.settings import SiteFolder
from common.errors import DataError
from common.plan import Plan


@dataclass(frozen=True)
class Forecast:
    """Epsilons at the policy's delta, of a patient who is in everything."""

    cost: float  # of the runs alone
    after: float  # with all that was spent or is reserved
    budget: float

    @property
    def too_much(self) -> bool:
        """Whether the last of the runs would be refused in the middle."""
        return self.after > self.budget

    def __str__(self) -> str:
        rest = (
            "which this site's policy does not allow" if self.too_much else f"of the policy's {self.budget:g}"
        )
        return f"costs each patient epsilon {self.cost:.3f}; {self.after:.3f} would be spent then, {rest}"


def forecast(folder: SiteFolder, plan: Plan, runs: int = 1) -> Forecast | None:
    """Of `runs` runs; None for a plan without privacy, or before there is a cohort for it.

    Raises:
        RefusedError: the plan's delta is not below one over the site's patients.
        ConfigError: no noise gives the plan's epsilon.
        DataError: the ledger is lost, or an older copy: nobody knows what was spent.
    """
    if plan.privacy is None:
        return None
    ledger = known_ledger(folder.ledger, folder.audit)
    try:
        cohort = Cohort.open(folder.cohort(plan))
    except DataError:
        return None
    policy = folder.settings().policy
    cost = RoundCost.of(plan, cohort.count_patients(cohort.split(plan.split)["train"]))
    steps = (cost.noise, cost.sample_rate, plan.rounds * cost.steps * runs)
    spent = ledger.history() if ledger else []
    return Forecast(epsilon([steps], policy.delta), epsilon([*spent, steps], policy.delta), policy.epsilon)
