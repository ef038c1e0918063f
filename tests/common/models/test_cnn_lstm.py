import itertools

import pytest
import torch
from torch import nn

from common.models import build_model
from common.models.cnn_lstm import Pooling, frame_mask, standardise, with_context
from common.plan import Model, Plan

VARIANTS = [
    {"pooling": pooling, "bidirectional": both, "context": context, "layers": layers}
    for pooling, both, context, layers in itertools.product(
        ("last", "mean", "attention"), (False, True), (0, 2), (1, 2)
    )
]


def make(**changes):
    return build_model(Plan(name="x", model=Model(width=4, embedding=8, hidden=8, **changes))).eval()


def ragged(lengths, size=20, seed=0):
    """A padded batch whose padding is rubbish: a model that reads it gives another answer."""
    g = torch.Generator().manual_seed(seed)
    shape = (len(lengths), max(lengths))
    frames = torch.rand(*shape, size, size, generator=g)
    gaps = torch.rand(*shape, generator=g) * 30
    padding = ~frame_mask(torch.tensor(lengths), max(lengths))
    frames[padding], gaps[padding] = 1e3, 1e3
    return frames, gaps, torch.tensor(lengths)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_a_padded_batch_equals_its_sequences_one_by_one(variant):
    model = make(**variant)
    frames, gaps, lengths = ragged([3, 1, 5, 4, 5])
    together = model(frames, gaps, lengths)
    alone = [
        model(frames[i : i + 1, :n], gaps[i : i + 1, :n], lengths[i : i + 1]) for i, n in enumerate(lengths)
    ]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_gradients_do_not_see_the_padding(variant):
    frames, gaps, lengths = ragged([2, 4])
    gradients = []
    for rubbish in (7.0, -3.0):
        model = make(**variant)
        padding = ~frame_mask(lengths, 4)
        frames[padding], gaps[padding] = rubbish, abs(rubbish)
        model(frames, gaps, lengths).sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    torch.testing.assert_close(*gradients)


def test_a_causal_model_does_not_see_the_future():
    model = make(pooling="last", context=1)
    frames, gaps, lengths = ragged([5])
    _, weights = model.explain(frames, gaps, lengths)
    assert weights[0].tolist() == [0, 0, 0, 0, 1]
    prefix = model(frames[:, :3], gaps[:, :3], torch.tensor([3]))
    frames[:, 3:] = 0.5
    torch.testing.assert_close(model(frames, gaps, torch.tensor([3])), prefix)


def test_context_stacks_earlier_frames_and_repeats_the_ends():
    frames = torch.arange(8.0).view(2, 4, 1, 1)  # frame t of sequence b holds 4 b + t
    lengths = torch.tensor([4, 2])
    valid = frame_mask(lengths, 4)
    one_sided = with_context(frames, lengths, valid, 2, False)[:, :, 0, 0]
    assert one_sided.tolist() == [[0, 0, 0], [1, 0, 0], [2, 1, 0], [3, 2, 1], [4, 4, 4], [5, 4, 4]]
    two_sided = with_context(frames, lengths, valid, 1, True)[:, :, 0, 0]
    assert two_sided.tolist() == [[0, 0, 1], [1, 0, 2], [2, 1, 3], [3, 2, 3], [4, 4, 5], [5, 4, 5]]


@pytest.mark.parametrize("kind", ["last", "mean", "attention"])
def test_pooling_weights_sum_to_one_and_are_zero_on_padding(kind):
    torch.manual_seed(0)
    lengths = torch.tensor([1, 3, 5])
    valid = frame_mask(lengths, 5)
    weights = Pooling(kind, 6)(torch.randn(3, 5, 6) * 50, valid, lengths)
    torch.testing.assert_close(weights.sum(1), torch.ones(3))
    assert (weights[~valid] == 0).all()


def test_embeddings_lie_on_a_sphere_of_the_learned_radius():
    model = make()
    frames, _, lengths = ragged([2, 3])
    valid = frame_mask(lengths, 3)
    rows = model._embed(frames, lengths, valid)[valid]
    torch.testing.assert_close(rows.norm(dim=1), torch.full((5,), 8**0.5))


def test_exposure_does_not_matter():
    frames = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(standardise(frames * 0.4 + 0.3), standardise(frames), rtol=1e-2, atol=1e-2)
    assert standardise(torch.zeros(1, 1, 4, 4)).isfinite().all()


def test_initial_weights_depend_on_the_plan_s_seed_alone():
    torch.manual_seed(1)
    one = build_model(Plan(name="x"))
    torch.manual_seed(2)
    same, other = build_model(Plan(name="x")), build_model(Plan(name="x", seed=1))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not torch.equal(one.head[0].weight, other.head[0].weight)


def test_nothing_depends_on_who_else_is_in_the_batch():
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in make().modules())
