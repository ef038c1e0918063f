"""What a run of a plan with privacy would cost this site's patients: told before somebody approves it, not in
round 1."""

from collections.abc import Iterator
from dataclasses import dataclass

from client.governance.accounting import RoundCost, epsilon
from client.governance.ledger import Steps
from client.governance.witness import known_ledger
from client.imaging.cohort import Cohort
from client.settings import SiteFolder
from common.errors import DataError
from common.plan import Plan


@dataclass(frozen=True)
class Forecast:
    """Epsilons at the policy's delta, of the patient for whom it is most."""

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
    costs, totals = [], []
    for part, (noise, rate, steps) in _parts(plan, cohort):
        patients = cohort.patients[cohort.split(plan.split)[part]].tolist()
        spent = ledger.history_of(patients) if ledger else []
        costs.append(epsilon([(noise, rate, steps * runs)], policy.delta))
        totals.append(epsilon([*spent, (noise, rate, steps * runs)], policy.delta))
    return Forecast(max(costs), max(totals), policy.epsilon)


def _parts(plan: Plan, cohort: Cohort) -> Iterator[tuple[str, Steps]]:
    """Whose budget a run takes, and for what: no patient is in two parts."""
    assert plan.privacy is not None
    n = {part: cohort.count_patients(indices) for part, indices in cohort.split(plan.split).items()}
    cost = RoundCost.of(plan, n["train"])
    yield "train", (cost.noise, cost.sample_rate, plan.rounds * cost.steps)
    if plan.privacy.threshold:
        yield "validation", RoundCost.of_scores(plan, n["validation"]).history
