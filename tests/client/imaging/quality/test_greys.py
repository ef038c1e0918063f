"""Histograms and distances against numpy and scipy."""

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from client.imaging.cohort import Cohort, build_cohort
from client.imaging.frames import Frame, InMemory
from client.imaging.outcome import Tally
from client.imaging.quality.greys import BINS, FAR, greys_of
from client.imaging.sequence import Collection, Sequence
from tests.helpers.plans import small_plan


def cohort_of(folder, depth=8, **pictures):
    plan = small_plan()
    contract = plan.input.model_copy(update={"depth": depth})
    sequences = [
        Sequence(f"{scanner}{k}", (Frame(0.0, InMemory(p)),), np.array([k % 2], np.float32), scanner)
        for scanner, some in pictures.items()
        for k, p in enumerate(some)
    ]
    build_cohort(folder, Collection(sequences, Tally()), contract, plan.findings, b"key", "stamp")
    return Cohort.open(folder)


def noise(seed, low=0.0, high=1.0, n=6):
    rng = np.random.default_rng(seed)
    return [rng.uniform(low, high, (16, 16)).astype(np.float32) for _ in range(n)]


@pytest.mark.parametrize("depth", [8, 16])
def test_a_histogram_is_numpy_s(tmp_path, depth):
    cohort = cohort_of(tmp_path / "c", depth, one=noise(1))
    pixels = np.concatenate([cohort.frames(i).ravel() for i in range(len(cohort))])
    expected = np.histogram(pixels, BINS, (0, 2**depth))[0] / pixels.size
    found = greys_of(cohort)["one"]
    assert found.histogram == pytest.approx(expected, abs=1e-5)
    assert (found.images, found.distance, found.cut_off) == (6, None, 0)


def test_a_distance_is_how_far_greys_must_move(tmp_path):
    cohort = cohort_of(
        tmp_path / "c", dark=noise(1, 0.0, 0.3), bright=noise(2, 0.6, 1.0), other=noise(3, 0.6, 1.0)
    )
    found = greys_of(cohort)
    middles = (np.arange(BINS) + 0.5) / BINS
    moves = [
        wasserstein_distance(middles, middles, found["dark"].histogram, found[name].histogram)
        for name in ("bright", "other")
    ]
    assert found["dark"].distance == pytest.approx(min(moves), abs=1e-3)
    assert found["dark"].distance > FAR > found["bright"].distance  # one odd scanner makes no other odd


def test_images_at_both_ends_are_cut_off(tmp_path):
    ends = np.zeros((16, 16), np.float32)
    ends[:, 8:] = 1.0
    cohort = cohort_of(tmp_path / "c", one=[ends, *noise(1, 0.1, 0.9, 3)])
    assert greys_of(cohort)["one"].cut_off == 0.25
