import math

import pytest

from client.training.schedule import rate_factor
from common.plan import Schedule


def test_a_cosine_by_its_formula():
    schedule = Schedule(name="cosine", warmup=0.2, final=0.1)
    assert rate_factor(schedule, 0.1) == pytest.approx(0.5)
    assert rate_factor(schedule, 0.2) == pytest.approx(1.0)
    assert rate_factor(schedule, 0.6) == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi / 2)) / 2)
    assert rate_factor(schedule, 1.0) == pytest.approx(0.1)


@pytest.mark.parametrize("warmup", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("name", ["constant", "cosine"])
def test_the_rate_is_never_zero_nor_above_the_plan_s(name, warmup):
    schedule = Schedule(name=name, warmup=warmup)
    assert all(0 < rate_factor(schedule, i / 100) <= 1 for i in range(100))
