"""Learning rate over the progress of the whole federation, not of one site's visit to it."""

import math

from common.plan import Schedule


def rate_factor(schedule: Schedule, progress: float) -> float:
    """Factor on the plan's learning rate.

    Args:
        progress: share of all steps that are done, in [0, 1): (rounds before + share of this round) / rounds.
        It is
            the same at every site whatever its size, so a site that joins late is on the same schedule.

    Returns:
        A linear rise over `warmup`, then 1 (`constant`), or half a cosine from 1 to `final` (Loshchilov and
        Hutter, 2017).
    """
    if progress < schedule.warmup:
        return max(progress / schedule.warmup, 1e-3)
    if schedule.name == "constant":
        return 1.0
    done = (progress - schedule.warmup) / max(1.0 - schedule.warmup, 1e-12)
    return schedule.final + (1.0 - schedule.final) * (1.0 + math.cos(math.pi * done)) / 2.0
