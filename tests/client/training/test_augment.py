import pytest
import torch

from client.training.augment import augment
from common.plan import Augmentation

ALL = Augmentation(shift=0.1, rotate=20, scale=0.2, contrast=0.3, brightness=0.1, flip=True)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_nothing_asked_nothing_changed():
    frames = torch.rand(2, 3, 8, 8)
    assert augment(frames, Augmentation(), generator()) is frames


def test_all_frames_of_a_sequence_change_alike():
    frame = torch.rand(4, 1, 16, 16)
    changed = augment(frame.expand(4, 3, 16, 16), ALL, generator())
    assert torch.equal(changed[:, 0], changed[:, 1])
    assert torch.equal(changed[:, 0], changed[:, 2])
    assert not torch.allclose(changed[0, 0], changed[1, 0] + (frame[0, 0] - frame[1, 0]))


def test_values_stay_in_range_and_depend_on_the_generator():
    frames = torch.rand(3, 2, 12, 12)
    one, same, other = (augment(frames, ALL, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert one.min() >= 0.0
    assert one.max() <= 1.0


@pytest.mark.parametrize("seed", range(4))
def test_a_flip_is_a_mirror(seed):
    frames = torch.rand(1, 1, 6, 6)
    changed = augment(frames, Augmentation(flip=True), generator(seed))
    assert any(torch.allclose(changed, expected, atol=1e-5) for expected in (frames, frames.flip(3)))


def test_a_shift_is_at_most_as_large_as_asked():
    frames = torch.zeros(64, 1, 40, 40)
    frames[:, :, 20, 20] = 1.0
    moved = augment(frames, Augmentation(shift=0.1), generator())
    grid = torch.arange(40.0)
    mass = moved.sum(dim=(1, 2, 3))
    center = (moved.sum(dim=(1, 2)) * grid).sum(1) / mass
    assert ((center - 20).abs() <= 4.01).all()
    assert (center - 20).abs().max() > 2
