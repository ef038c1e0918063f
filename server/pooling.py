"""What the sites say of a round's weights, taken together."""

import math
from collections.abc import Iterable, Mapping

import numpy as np

from common import wire
from common.calibration import NUMBERS, fit_temperature
from common.results.rounds import Evaluation
from server.weighing import JUDGES


def pool_numbers(sites: Mapping[str, wire.Numbers], failed: Mapping[str, str]) -> Evaluation:
    """Means over sites, weighted by patients; sites where a number is undefined do not count.

    The AUROC's error is that of a weighted mean of independent estimates: sqrt(sum (w_i se_i)^2) / sum w_i.
    """
    known = [s for s in sites.values() if np.isfinite(s[wire.AUROC_SE])]
    total = sum(s[wire.N_EXAMPLES] for s in known)
    spread = math.sqrt(sum((s[wire.N_EXAMPLES] * s[wire.AUROC_SE]) ** 2 for s in known))
    return Evaluation(
        loss=weighted_mean(sites.values(), wire.LOSS),
        auroc=weighted_mean(sites.values(), wire.AUROC),
        brier=weighted_mean(sites.values(), wire.BRIER),
        temperature=_temperature(sites.values()),
        auroc_se=spread / total if total else math.nan,
        sites=sites,
        failed=failed,
    )


def _temperature(sites: Iterable[wire.Numbers]) -> float:
    """That of all validation patients together, within what all sites but the two farthest say of their own:
    one that lies about its losses moves it no farther."""
    pooled = fit_temperature({name: weighted_mean(sites, name) for name in NUMBERS})
    own = sorted(t for t in (fit_temperature({name: s[name] for name in NUMBERS}) for s in sites) if t == t)
    return min(max(pooled, own[1]), own[-2]) if len(own) >= JUDGES else pooled


def weighted_mean(sites: Iterable[wire.Numbers], name: str) -> float:
    """Of a number over the sites that have it, by their patients; NaN if none has."""
    known = [(s[wire.N_EXAMPLES], s[name]) for s in sites if np.isfinite(s[name])]
    total = sum(n for n, _ in known)
    return sum(n * value for n, value in known) / total if total else float("nan")
