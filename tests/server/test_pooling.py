import numpy as np
import pytest

from common import wire
from common.calibration import TEMPERATURES, loss_at
from server.pooling import pool_numbers


def test_numbers_are_pooled_by_patients():
    sites = {
        "a": {wire.N_EXAMPLES: 30, wire.LOSS: 1.0, wire.AUROC: 0.9, wire.AUROC_SE: 0.03, wire.BRIER: 0.1},
        "b": {wire.N_EXAMPLES: 10, wire.LOSS: 2.0, wire.AUROC: 0.5, wire.AUROC_SE: 0.04, wire.BRIER: 0.3},
        "c": {wire.N_EXAMPLES: 5, wire.LOSS: 2.0, wire.AUROC: np.nan, wire.AUROC_SE: np.nan, wire.BRIER: 0.3},
    }
    for site in sites.values():  # lowest at a temperature of 2
        site |= {loss_at(t): site[wire.LOSS] + np.log2(t / 2) ** 2 for t in TEMPERATURES}
    pooled = pool_numbers(sites, {"d": "is gone"})
    assert pooled.auroc == pytest.approx((30 * 0.9 + 10 * 0.5) / 40)
    assert pooled.auroc_se == pytest.approx(((30 * 0.03) ** 2 + (10 * 0.04) ** 2) ** 0.5 / 40)
    assert pooled.loss == pytest.approx((30 + 20 + 10) / 45)
    assert pooled.temperature == pytest.approx(2.0)
    assert (pooled.sites, pooled.failed) == (sites, {"d": "is gone"})


def test_one_of_five_cannot_drag_the_temperature_away():
    """It says that its patients are best served by the highest one, by losses without end elsewhere."""
    steep = {loss_at(t): 1e6 * (np.log2(16 / t)) for t in TEMPERATURES}
    honest = {
        f"site-{k}": {wire.N_EXAMPLES: 10, **dict.fromkeys(wire.EVALUATE_NUMBERS, 0.5)}
        | {loss_at(t): 0.4 + np.log2(t / (1.5 + 0.1 * k)) ** 2 for t in TEMPERATURES}
        for k in range(4)
    }
    liar = {wire.N_EXAMPLES: 10, **dict.fromkeys(wire.EVALUATE_NUMBERS, 0.5), **steep}
    alone = pool_numbers(honest, {}).temperature
    assert alone == pytest.approx(1.65, rel=0.01)
    assert 1.5 <= pool_numbers({**honest, "liar": liar}, {}).temperature <= 1.85
