"""How much a site counts: by the patients that it named when it was greeted, and never more than the plan's
share.

One hospital counts as one hospital: what it says of itself later cannot make it count for more, and what it
said at first cannot outweigh all the others.
"""

import math
from collections.abc import Mapping

import numpy as np

from common import wire
from common.errors import WireError
from common.plan import Plan
from common.shares import largest_weight

FAR = 5.0
"""A robust z-score beyond which an update's norm is said to be unlike the others'. Of normal ones, one in a
million is."""
JUDGES = 4
"""With fewer norms, their spread says nothing."""


class Scale:
    """The sites of a round, and what each may weigh."""

    def __init__(
        self, plan: Plan, declared: Mapping[str, float], away: Mapping[str, float] | None = None
    ) -> None:
        """`declared`: patients by site, NaN where a site did not say; `away`: of those that were greeted and
        are not here now."""
        self._plan, self._declared = plan, declared
        self._cap = largest_weight(list(declared.values()), plan.federation.max_share)
        self._away = away or {}
        self.capped: dict[str, str] = {}

    def share(self, weight: float) -> float:
        """Of all sites' weights, those of the ones that answered, which come to `weight`."""
        here, away = self._declared.values(), self._away.values()
        cap = largest_weight([*here, *away], self._plan.federation.max_share)
        weights = [*(min(n, self._cap) for n in here), *(min(n, cap) for n in away)]
        return min(1.0, weight / sum(n for n in weights if math.isfinite(n)))

    def weigh(self, site: str, n_patients: float) -> float:
        """What a reply about `n_patients` weighs.

        Raises:
            WireError: more patients than the site declared, or it declared none; or, under privacy, another
            number than all sites say.
        """
        if self._plan.privacy is not None:
            if n_patients != wire.PRIVATE_WEIGHT:
                raise WireError(f"found {n_patients:g} patients, under privacy every site counts as one")
            return n_patients
        declared = self._declared.get(site, math.nan)
        if math.isnan(
            declared
        ):  # an honest site sends nothing of so few patients that it may not say how many
            raise WireError(f"found {n_patients:.0f} patients, it declared none when this run greeted it")
        if n_patients > declared:
            raise WireError(
                f"found {n_patients:.0f} patients, it declared {declared:.0f} when this run greeted it; "
                "more count from the next run on"
            )
        if n_patients > self._cap:
            counts = f"counts as {self._cap:.10g} of its {n_patients:.0f} patients"
            self.capped[site] = f"{counts} (federation.max_share {self._plan.federation.max_share:g})"
        return min(n_patients, self._cap)


def unlike(norms: Mapping[str, float]) -> dict[str, str]:
    """Site -> what is odd about the norm of its update, by the robust z-score of Iglewicz and Hoaglin (1993):
    0.6745 (x - median) / MAD."""
    if len(norms) < JUDGES:
        return {}
    values = np.array(list(norms.values()))
    median = float(np.median(values))
    spread = float(np.median(np.abs(values - median)))
    scores = {site: 0.6745 * (x - median) / max(spread, 1e-3 * median, 1e-12) for site, x in norms.items()}
    return {
        site: f"an update of norm {norms[site]:.3g}, the others' median is {median:.3g}"
        for site, z in sorted(scores.items())
        if abs(z) > FAR
    }
