"""Every sequence once, padded, with grey values in the unit range."""

import numpy as np
import torch

from client.compute.batches import collate, in_batches
from client.imaging.cohort import (
    Cohort,
)
from tests.helpers.cohorts import CPU, make_cohort


def test_each_sequence_is_seen_once_in_a_pass(cohort):
    indices = np.arange(len(cohort))
    seen = torch.cat(
        [b.labels for b in in_batches(cohort, indices, 7, CPU, torch.Generator().manual_seed(1))]
    )
    assert len(seen) == len(cohort)
    assert sorted(seen.flatten().tolist()) == sorted(cohort.labels.flatten().tolist())
    ordered = torch.cat([b.lengths for b in in_batches(cohort, indices, 7, CPU)])
    assert ordered.tolist() == cohort.lengths.tolist()


def test_grey_values_arrive_in_the_unit_range(cohort):
    batch = collate(cohort, np.array([3, 1])).to(CPU)
    np.testing.assert_allclose(
        batch.frames[0, : cohort.lengths[3]].numpy(), cohort.frames(3) / 255, rtol=1e-6
    )
    assert batch.frames.dtype == torch.float32


def test_a_padded_batch_is_its_sequences_one_by_one(tmp_path):
    cohort = Cohort.open(make_cohort(tmp_path / "a", 9), make_cohort(tmp_path / "b", 7, seed=2))
    rng = np.random.default_rng(0)
    alike = np.flatnonzero(cohort.lengths == cohort.lengths[0])
    for indices in (rng.permutation(len(cohort)), np.arange(9), np.array([12]), alike[alike < 9]):
        frames, gaps = cohort.padded(indices)
        for row, i in enumerate(indices):
            n = cohort.lengths[i]
            assert np.array_equal(frames[row, :n], cohort.frames(i))
            assert np.array_equal(gaps[row, :n], cohort.gaps(i))
            assert not frames[row, n:].any()
            assert not gaps[row, n:].any()
