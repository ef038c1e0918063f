"""The estimate against EM as it was published and against a grid; the correction against Bayes' rule on counts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.calibration import calibrate
from common.prevalence import Reference, corrected, estimated, most_likely
from common.results.run import Bin

shares = st.floats(0.02, 0.98)
chances = st.lists(st.floats(0.001, 0.999), min_size=1, max_size=30)
LARGE = Reference(n=10**6, n_positive=4 * 10**5, predicted=0.4, spread=0.001)


def of_label_shift(share, n, seed, before=0.4, gap=2.0):
    """Exact posteriors, for `before`, of normal scores of two classes, and labels at another share."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < share).astype(float)
    x = rng.normal(gap * labels, 1.0)
    odds = np.exp(gap * x - gap**2 / 2) * before / (1 - before)
    return odds / (1 + odds), labels


def published_em(p, before, n=20000):
    """Saerens et al., 2002: the mean of the corrected probabilities, until it stands."""
    now = before
    for _ in range(n):
        yes, no = p * now / before, (1 - p) * (1 - now) / (1 - before)
        now = (yes / (yes + no)).mean()
    return now


@given(chances, shares)
def test_the_most_likely_share_is_the_best_of_a_grid(p, before):
    p = np.array(p)
    yes, no = p / before, (1 - p) / (1 - before)
    (found,) = most_likely(yes[None], no[None], np.ones((1, len(p))))

    def likelihood(s):
        return np.log(s * yes + (1 - s) * no).sum()

    assert likelihood(found) >= max(likelihood(s) for s in np.linspace(0.0, 1.0, 501)) - 1e-6


@pytest.mark.parametrize("share", [0.1, 0.4, 0.8])
def test_em_as_it_was_published_ends_there(share):
    p, _ = of_label_shift(share, 400, 1)
    (found,) = most_likely(p[None] / 0.4, (1 - p[None]) / 0.6, np.ones((1, 400)))
    assert found == pytest.approx(published_em(p, 0.4), abs=1e-6)


@given(
    st.lists(st.tuples(st.floats(0.01, 0.99), st.integers(0, 3)), min_size=1, max_size=20).filter(
        lambda rows: any(w for _, w in rows)
    ),
    shares,
)
def test_a_weight_is_a_repetition(rows, before):
    p, w = (np.array(column, float) for column in zip(*rows, strict=True))
    again = np.repeat(p, w.astype(int))
    (one,) = most_likely(p[None] / before, (1 - p[None]) / (1 - before), w[None])
    (other,) = most_likely(again[None] / before, (1 - again[None]) / (1 - before), np.ones((1, len(again))))
    yes, no = again / before, (1 - again) / (1 - before)
    likelihoods = [np.log(s * yes + (1 - s) * no).sum() for s in (one, other)]  # of a flat one both are right
    assert likelihoods[0] == pytest.approx(likelihoods[1], abs=1e-6)


@given(chances, shares, shares)
def test_the_correction_is_bayes_rule_and_goes_back(p, before, now):
    p = np.array(p)
    np.testing.assert_allclose(corrected(p, before, before), p, atol=1e-12)
    np.testing.assert_allclose(corrected(corrected(p, before, now), now, before), p, atol=1e-9)
    odds = p / (1 - p) * (now / (1 - now)) / (before / (1 - before))
    np.testing.assert_allclose(corrected(p, before, now), odds / (1 + odds), atol=1e-9)
    order = np.argsort(p, kind="stable")
    assert (np.diff(corrected(p, before, now)[order]) >= -1e-12).all()


def test_of_counted_patients_it_is_the_counted_share():
    """Of 100 with the finding 80 show a sign, of 100 without 20; elsewhere 10 and 190 have it."""
    here, elsewhere = np.array([80 / 100]), 8 / (8 + 38)
    assert corrected(here, 0.5, 10 / 200) == pytest.approx(elsewhere)
    assert corrected(np.array([0.0, 1.0]), 0.5, 0.05).tolist() == [0.0, 1.0]


def test_a_shift_is_recovered_within_its_interval_as_often_as_it_says():
    inside = 0
    for seed in range(40):
        p, _ = of_label_shift(0.1, 300, seed)
        found = estimated(p, np.arange(300), LARGE, 100, np.random.default_rng(seed))
        inside += found.estimate.low <= 0.1 <= found.estimate.high
        assert not (found.is_at_edge)
        assert not (found.is_flat)
    assert inside >= 34  # of 40, of which 38 are meant


def test_what_the_model_s_own_share_is_counted_on_is_in_the_interval():
    p, _ = of_label_shift(0.3, 1000, 3)
    few = Reference(n=25, n_positive=10, predicted=0.4, spread=0.1)
    (sure, unsure) = (
        estimated(p, np.arange(1000), one, 200, np.random.default_rng(0)).estimate for one in (LARGE, few)
    )
    assert sure.value == unsure.value
    assert unsure.high - unsure.low > 1.5 * (sure.high - sure.low)


def test_a_patient_s_sequences_are_drawn_together():
    p, _ = of_label_shift(0.3, 100, 3)
    alone = estimated(np.tile(p, 4), np.arange(400), LARGE, 200, np.random.default_rng(0)).estimate
    together = estimated(np.tile(p, 4), np.tile(np.arange(100), 4), LARGE, 200, np.random.default_rng(0))
    assert together.n_patients == 100
    assert together.estimate.high - together.estimate.low > 1.5 * (alone.high - alone.low)


def test_edges_and_a_model_that_tells_nobody_apart_are_known():
    rng = np.random.default_rng(0)
    for p, edge, flat in (
        (np.full(200, 0.4), True, True),
        (0.4 + rng.normal(0, 0.001, 200), False, True),
        (np.full(200, 0.01), True, False),
        (np.full(200, 0.99), True, False),
        (np.r_[np.zeros(150), np.ones(50)], False, False),
    ):
        found = estimated(p, np.arange(200), LARGE, 100, rng)
        assert found.is_flat == flat
        assert found.is_at_edge == edge or flat
    assert found.estimate.value == pytest.approx(0.25)


def test_the_reference_is_who_was_judged():
    rng = np.random.default_rng(2)
    raw = rng.random(4000)
    labels = rng.random(4000) < calibrate(raw, 1.5)
    places = (raw * 10).astype(int)
    bins = [
        Bin(predicted=float(raw[c].mean()), observed=float(labels[c].mean()), n=int(c.sum()))
        for c in (places == b for b in range(10))
    ]
    found = Reference.of(bins, 1.5)
    assert (found.n, found.n_positive) == (4000, labels.sum())
    assert found.predicted == pytest.approx(calibrate(raw, 1.5).mean(), abs=0.01)
    assert not found.is_off
    halved = [Bin(predicted=one.predicted, observed=one.observed / 2, n=one.n) for one in bins]
    assert Reference.of(halved, 1.5).is_off
