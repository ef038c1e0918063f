"""What a pass leaves: norms over all layers, and the clipped sum, by hand."""

import pytest
import torch

from client.training.private.rows import PackedRows
from client.training.private.tape import Tape, accumulate
from tests.helpers.cohorts import CPU


@pytest.fixture
def tape():
    tape, rows = Tape(), PackedRows(torch.tensor([0, 1]), 2, CPU)
    tape.start(rows, rows, rows)
    return tape


def parameter(*shape):
    return torch.nn.Parameter(torch.zeros(*shape))


def test_norms_are_over_all_layers_together_and_the_sum_is_weighted_by_factor(tape):
    a, b = parameter(2, 2), parameter(3)
    of_a, of_b = torch.rand(2, 2, 2), torch.rand(2, 3)
    tape.add_gradients([(a, of_a)])
    tape.add_gradients([(b, of_b)])
    whole = torch.cat([of_a.flatten(1), of_b], 1)
    torch.testing.assert_close(tape.norms(), whole.norm(dim=1))
    factors = torch.tensor([0.5, 2.0])
    tape.finish(factors)
    torch.testing.assert_close(a.grad, 0.5 * of_a[0] + 2.0 * of_a[1])
    torch.testing.assert_close(b.grad, 0.5 * of_b[0] + 2.0 * of_b[1])


def test_what_is_frozen_or_absent_is_not_noted(tape):
    frozen, free = parameter(2).requires_grad_(False), parameter(2)
    tape.add_gradients([(frozen, torch.ones(2, 2)), (None, torch.ones(2, 2)), (free, None)])
    tape.add_gradients([(free, torch.ones(2, 2))])
    torch.testing.assert_close(tape.norms(), torch.full((2,), 2**0.5))
    tape.finish(torch.ones(2))
    assert frozen.grad is None
    assert free.grad.tolist() == [2.0, 2.0]


def test_a_parameter_noted_twice_or_never_would_make_the_norms_wrong(tape):
    a, b = parameter(1), parameter(1)
    names = {id(a): "a", id(b): "b"}
    tape.add_gradients([(a, torch.ones(2, 1))])
    with pytest.raises(RuntimeError, match="b was used 0 times in a pass, expected once"):
        tape.require_each_once(names)
    tape.add_gradients([(b, torch.ones(2, 1))])
    tape.require_each_once(names)
    tape.add_gradients([(a, torch.ones(2, 1))])
    with pytest.raises(RuntimeError, match="a was used 2 times"):
        tape.require_each_once(names)


def test_a_new_pass_forgets_the_one_before_but_its_gradients_add_up(tape):
    a = parameter(1)
    for _ in range(2):
        tape.start(tape.frames, tape.steps, tape.sequences)
        tape.add_gradients([(a, torch.ones(2, 1))])
        assert tape.norms().tolist() == [1.0, 1.0]
        tape.finish(torch.ones(2))
    assert a.grad.tolist() == [4.0]
    accumulate(None, torch.ones(1))
