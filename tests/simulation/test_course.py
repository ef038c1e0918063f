"""The best readers by formula, against simulated patients and brute force over every order."""

from itertools import permutations

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.metrics import roc_auc_score

from simulation.course import COURSES, READERS, optima

N = 20_000


def drawn(course, n, seed=0):
    """(2N, n) log severities and their labels."""
    rng = np.random.default_rng(seed)
    x = np.array([course.draw(s, n, rng) for s in (1.0, -1.0) for _ in range(N)])
    return x, np.repeat([1, 0], N)


def covariance(course, n):
    return course.level**2 + course.error**2 * np.eye(n)


@pytest.mark.parametrize(("name", "n"), [("trend", 3), ("trend", 5), ("relapse", 4), ("relapse", 6)])
def test_each_reader_s_best_is_what_simulated_patients_give(name, n):
    course = COURSES[name]
    x, y = drawn(course, n)
    weights = np.linalg.solve(covariance(course, n), course.shape(n))
    scores = {
        "first": x[:, 0] * np.sign(course.shape(n)[0]), "last": x[:, -1] * np.sign(course.shape(n)[-1]),
        "difference": x[:, -1] - x[:, 0], "ordered": x @ weights, "unordered": x.mean(1),
    }  # fmt: skip
    best = optima(course, [n], [n])
    for reader in READERS:
        found = roc_auc_score(y, scores[reader]) if np.ptp(scores[reader]) else 0.5
        assert found == pytest.approx(best[reader], abs=0.012), reader


@pytest.mark.slow
def test_no_reader_of_a_set_knows_anything():
    """The likelihood of the images in any order is the same for both truths."""
    for course, n in ((COURSES["trend"], 4), (COURSES["relapse"], 5)):
        orders = [course.shape(n)[list(p)] for p in permutations(range(n))]
        x, _ = drawn(course, n)
        for one in x[:20]:
            likelihoods = [
                sum(multivariate_normal.pdf(one, s * course.gain * h, covariance(course, n)) for h in orders)
                for s in (1, -1)
            ]
            assert likelihoods[0] == pytest.approx(likelihoods[1], rel=1e-9)


def test_the_claim_s_numbers():
    trend, relapse = optima(COURSES["trend"], [4], [4]), optima(COURSES["relapse"], [4], [4])
    assert trend["ordered"] == pytest.approx(0.99, abs=0.005)
    assert relapse["ordered"] == pytest.approx(0.99, abs=0.005)
    assert (relapse["first"], relapse["last"], relapse["unordered"], relapse["difference"]) == (
        0.5,
        0.5,
        0.5,
        0.5,
    )
    inner = 2 * 0.15 / np.hypot(0.40, 0.13) / np.sqrt(2)
    from scipy.stats import norm

    assert norm.cdf(inner) == pytest.approx(0.69, abs=0.005)  # of the image at the height alone


def test_lengths_are_mixed_as_they_are_drawn():
    course = COURSES["trend"]
    rng = np.random.default_rng(1)
    lengths = rng.integers(3, 7, 4000)
    y = rng.integers(0, 2, 4000)
    ratio = []
    for n, label in zip(lengths, y, strict=True):
        x = course.draw(1.0 if label else -1.0, int(n), rng)
        ratio.append(2 * course.gain * course.shape(int(n)) @ np.linalg.solve(covariance(course, int(n)), x))
    best = optima(course, lengths[y == 1].tolist(), lengths[y == 0].tolist())
    assert roc_auc_score(y, ratio) == pytest.approx(best["ordered"], abs=0.01)


def test_a_class_that_is_empty_has_no_optimum():
    assert np.isnan(optima(COURSES["trend"], [], [4])["ordered"])
