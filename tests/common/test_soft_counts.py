"""Soft counts against sums worked out by hand, and what one patient can change."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import soft_counts

FINDINGS = ("pneumonia", "effusion")


def made(seed, n=30, patients=12):
    rng = np.random.default_rng(seed)
    labels = rng.choice([0.0, 1.0, np.nan], (n, 2)).astype(np.float32)
    return rng.random((n, 2)), labels, rng.integers(0, patients, n).astype(str)


def test_number_and_moments_follow_from_them():
    rng = np.random.default_rng(1)
    p, labels = rng.random((50, 1)), rng.integers(0, 2, (50, 1)).astype(np.float32)
    counts = soft_counts.count(p, labels, np.arange(50).astype(str))
    for label in (0, 1):
        low, middle, high = counts[0, label]
        of_class = p[labels == label]
        assert low + middle + high == pytest.approx(len(of_class))
        assert high + middle / 2 == pytest.approx(of_class.sum())
        assert high == pytest.approx((of_class**2).sum())


@given(st.integers(0, 10_000))
def test_they_are_the_sum_over_patients_of_the_mean_over_their_known_sequences(seed):
    p, labels, patients = made(seed)
    expected = np.zeros((2, 2, 3))
    for patient in set(patients):
        for k in range(2):
            own = [i for i in range(len(p)) if patients[i] == patient and not np.isnan(labels[i, k])]
            for i in own:
                q = p[i, k]
                expected[k, int(labels[i, k])] += np.array([(1 - q) ** 2, 2 * q * (1 - q), q * q]) / len(own)
    np.testing.assert_allclose(soft_counts.count(p, labels, patients), expected, atol=1e-12)


@given(st.integers(0, 10_000), st.sampled_from([0.0, 1.0, None]))
def test_one_patient_moves_all_of_them_by_no_more_than_the_sensitivity(seed, extreme):
    p, labels, patients = made(seed)
    p = p if extreme is None else np.full_like(p, extreme)
    whole = soft_counts.count(p, labels, patients)
    for patient in set(patients):
        rest = patients != patient
        moved = np.linalg.norm(whole - soft_counts.count(p[rest], labels[rest], patients[rest]))
        assert moved <= soft_counts.sensitivity(2) + 1e-9


def test_the_sensitivity_is_reached():
    one = soft_counts.count(np.array([[1.0, 0.0]]), np.array([[1.0, 0.0]], np.float32), np.array(["a"]))
    assert np.linalg.norm(one) == pytest.approx(soft_counts.sensitivity(2))


def test_nobody_counts_as_nobody():
    none = soft_counts.count(np.zeros((0, 2)), np.zeros((0, 2), np.float32), np.array([], dtype=np.str_))
    assert none.shape == (2, 2, 3)
    assert not none.any()


def test_numbers_keep_them():
    counts = np.round(np.random.default_rng(3).normal(0, 50, (2, 2, 3)), soft_counts.DIGITS)
    numbers = soft_counts.to_numbers(counts, FINDINGS)
    assert tuple(numbers) == soft_counts.names(FINDINGS)
    assert numbers["high-positive:effusion"] == counts[1, 1, 2]
    np.testing.assert_array_equal(soft_counts.from_numbers(numbers, FINDINGS), counts)
