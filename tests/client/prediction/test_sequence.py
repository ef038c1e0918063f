"""A sequence as a model sees it: gaps from positions, frames left out, and batches of several lengths."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from client.prediction.sequence import Seen, logits
from common.models import build_model
from tests.helpers.plans import small_plan


def seen(t, seed=0):
    g = torch.Generator().manual_seed(seed)
    positions = torch.cumsum(torch.rand(t, generator=g) * 10, 0)
    return Seen(torch.rand(t, 16, 16, generator=g), positions - positions[0])


@given(st.integers(1, 6), st.data())
def test_gaps_of_what_is_left_span_what_was_left_out(t, data):
    whole = seen(t)
    chosen = sorted(data.draw(st.sets(st.integers(0, t - 1), min_size=1)))
    left = whole.only(chosen)
    assert len(left) == len(chosen)
    assert left.gaps[0] == 0
    torch.testing.assert_close(left.gaps.sum(), whole.positions[chosen[-1]] - whole.positions[chosen[0]])
    assert torch.equal(left.frames, whole.frames[chosen])


def test_several_lengths_in_one_batch_are_each_alone():
    model = build_model(small_plan()).eval()
    sequences = [seen(t, t) for t in (1, 4, 2)]
    with torch.inference_mode():
        together = logits(model, sequences)
        alone = torch.cat([logits(model, [one]) for one in sequences])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)
