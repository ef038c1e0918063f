"""The cap that keeps one site from outweighing all others."""

import math
from collections.abc import Sequence

FEWEST = 3
"""Of two sites one has at least half of the weight: there a share bounds nothing."""

STEP = 2.0**-10
"""A cap is a multiple of it: sums of weights are exact then, and do not hang on the order of replies."""


def largest_weight(weights: Sequence[float], share: float) -> float:
    """The cap c with c = share * sum(min(w, c)): no site has a larger share of what then counts. Infinite if
    none has."""
    ordered = sorted((w for w in weights if math.isfinite(w)), reverse=True)
    if len(ordered) < FEWEST or share >= 1.0:
        return math.inf
    for n_capped in range(len(ordered)):
        rest = sum(ordered[n_capped:])
        if ordered[n_capped] <= (cap := _cap(rest, n_capped, share)):
            return math.inf if n_capped == 0 else cap
    return ordered[-1]


def _cap(rest: float, n_capped: int, share: float) -> float:
    """Where `n_capped` sites are at the cap and the others have `rest`."""
    if n_capped == 0:
        return share * rest
    left = 1.0 - share * n_capped
    cap = share * rest / left if left > 0.0 else 0.0
    return math.floor(cap / STEP + 1e-9) * STEP or cap  # 1e-9: of one that is whole but for rounding
