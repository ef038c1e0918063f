"""From an attacker's right guesses to a lower bound of ε.

Steinke, Nasr, Jagielski, 2023, "Privacy Auditing with One (1) Training Run".
"""

import numpy as np
from scipy.optimize import brentq
from scipy.stats import binom

LARGEST = 100.0


def p_value(canaries: int, guesses: int, right: int, epsilon: float, delta: float) -> float:
    """Chance of at least `right` of `guesses` right, if training were (ε, δ)-private: their Theorem 5.2 and
    Appendix D.

    Each of `canaries` was in by a fair coin of its own; the attacker may have kept silent about canaries -
    guesses of them.
    """
    probability = 1.0 / (1.0 + np.exp(-epsilon))
    tail = float(binom.sf(right - 1, guesses, probability))
    # With δ, an attacker may win i further guesses at the price of δ/i each.
    excess = np.cumsum(binom.pmf(right - np.arange(1, right + 1), guesses, probability))
    price = float((excess / np.arange(1, right + 1)).max(initial=0.0))
    return min(1.0, tail + 2.0 * canaries * delta * price)


def epsilon_lower_bound(
    canaries: int, guesses: int, right: int, delta: float, confidence: float = 0.95
) -> float:
    """The largest ε >= 0 that is refuted at `confidence`: training that is (ε, δ)-private would not let one
    guess so well."""
    if not 0 <= right <= guesses <= canaries:
        raise ValueError(f"found {right} right of {guesses} guesses on {canaries} canaries")

    def surplus(epsilon: float) -> float:
        return p_value(canaries, guesses, right, epsilon, delta) - (1.0 - confidence)

    if surplus(0.0) >= 0.0:
        return 0.0
    return float(brentq(surplus, 0.0, LARGEST)) if surplus(LARGEST) > 0.0 else LARGEST
