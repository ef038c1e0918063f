"""Cells hold enough patients, say what they hold, and patients rebuilt from them are ranked as the real
ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import metrics
from common.spread import Spread


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def names(n):
    return np.array([f"p{i}" for i in range(n)])


@pytest.mark.slow
@given(
    st.lists(
        st.tuples(st.floats(0, 1), st.sampled_from([0.0, 1.0, np.nan]), st.integers(0, 12)), max_size=60
    ),
    st.integers(1, 6),
)
def test_no_cell_holds_fewer_patients_than_agreed(rows, least):
    p, y, who = (np.array([row[i] for row in rows]) for i in range(3))
    patients = np.array([f"p{int(i)}" for i in who])
    spread = Spread.of(p, y, patients, least)
    by_class = [set(patients[y == 1]), set(patients[y == 0]), set(patients[np.isnan(y)])]
    assert (spread is None) == any(0 < len(some) < least for some in by_class)
    if spread is not None:
        for cells, label in ((spread.positive, 1), (spread.negative, 0)):
            assert all(cell.n_patients >= least for cell in cells)
            assert sum(cell.n for cell in cells) == (y == label).sum()
            assert [cell.mean for cell in cells] == sorted(cell.mean for cell in cells)
        probabilities, labels = spread.rebuilt()
        assert len(probabilities) == len(labels) == (~np.isnan(y)).sum()
        assert ((probabilities >= 0) & (probabilities <= 1)).all()


def test_a_cell_is_the_mean_and_deviation_of_its_logits():
    logits = np.array([-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 5.0])
    spread = Spread.of(sigmoid(logits), np.ones(7), names(7), 3)
    assert spread is not None
    assert [(c.n, c.n_patients, c.mean, c.spread, c.skew) for c in spread.positive] == [
        (3, 3, -2.0, pytest.approx(np.std([-3, -2, -1]).round(2)), 0.0),
        (4, 4, 2.0, pytest.approx(np.std([0, 1, 2, 5]).round(2)), pytest.approx(skew([0, 1, 2, 5]).round(1))),
    ]
    assert spread.negative == ()
    probabilities, labels = spread.rebuilt()
    rebuilt = np.log(probabilities / (1 - probabilities))
    assert rebuilt[:3].mean() == pytest.approx(-2.0)
    assert rebuilt[3:].std() == pytest.approx(spread.positive[1].spread)
    assert (labels == 1).all()


@pytest.mark.parametrize("saturated", [np.zeros(30), np.ones(30), np.full(30, 1e-30)])
def test_probabilities_of_nought_and_one_are_cells_too(saturated):
    spread = Spread.of(saturated, np.ones(30), names(30), 10)
    assert spread is not None
    assert np.allclose(spread.rebuilt()[0], saturated, atol=1e-6)


def test_one_far_from_the_others_is_rebuilt_far_from_them():
    logits = np.array([4.0] * 11 + [-3.0])
    spread = Spread.of(sigmoid(logits), np.ones(12), names(12), 10)
    assert spread is not None
    rebuilt = spread.rebuilt()[0]
    assert np.log(rebuilt / (1 - rebuilt)) == pytest.approx(np.sort(logits), abs=0.05)


def test_many_patients_are_two_hundred_cells_at_most():
    n = 15_000
    spread = Spread.of(np.random.default_rng(0).random(n), np.ones(n), names(n), 10)
    assert spread is not None
    assert len(spread.positive) == 200


def skew(x):
    return np.mean(((x - np.mean(x)) / np.std(x)) ** 3)


def ordinary(rng, n):
    return rng.normal(1.2, 1.6, n), rng.normal(-1.2, 1.2, n)


def one_sided(rng, n):
    return 4 - rng.gamma(1.5, 2.2, n), -4 + rng.gamma(1.5, 1.8, n)


def with_outliers(rng, n):
    far = rng.random((2, n)) < 0.03
    return np.where(far[0], -3, 4) + rng.normal(0, 1, n), np.where(far[1], 3, -4) + rng.normal(0, 1, n)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "within"), [(30, 0.007), (60, 0.003), (100, 0.002), (300, 0.0006)])
@pytest.mark.parametrize("draw", [ordinary, one_sided, with_outliers])
def test_the_pooled_auroc_of_three_sites_is_close(draw, n, within):
    """The mean error over draws, at ten patients in a cell and `n` of each class at a site."""
    rng, errors = np.random.default_rng(1), []
    for _ in range(40):
        real, rebuilt = [], []
        for shift in (0.0, 0.4, -0.3):
            logits = np.concatenate(draw(rng, n)) + shift
            labels = np.repeat([1.0, 0.0], n)
            spread = Spread.of(sigmoid(logits), labels, names(2 * n), 10)
            assert spread is not None
            real.append((sigmoid(logits), labels))
            rebuilt.append(spread.rebuilt())
        errors.append(abs(auroc(real) - auroc(rebuilt)))
    assert np.mean(errors) < within


def auroc(parts):
    p, y = (np.concatenate([part[i] for part in parts]) for i in range(2))
    none = np.zeros((0, len(p)))
    return metrics.macro_estimate(metrics.auroc, p[:, None], y[:, None].astype(np.float32), none).value
