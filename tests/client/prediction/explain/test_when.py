"""When the model changed its mind, against brute force."""

import pytest
import torch

from client.prediction.explain.when import When, explain_when
from client.prediction.sequence import logits
from tests.helpers.known_model import Bright, sequence, spot


def test_a_shorter_sequence_is_what_it_would_have_been_without_the_image(model):
    seen = sequence()
    without = seen.only([0, 2, 3])
    assert without.gaps.tolist() == [0.0, 5.0, 7.0]
    assert seen.only([1, 2]).gaps.tolist() == [0.0, 2.0]
    one_by_one = [logits(model, [s]) for s in (seen, without, seen.only([1]))]
    together = logits(model, [seen, without, seen.only([1])])
    torch.testing.assert_close(together, torch.cat(one_by_one), rtol=1e-4, atol=1e-5)


def test_when_is_what_the_model_says_of_every_beginning_and_of_every_gap(model):
    seen = sequence()
    found = explain_when(model, seen, 0)
    with torch.no_grad():
        for t in range(4):
            assert found.running[t] == pytest.approx(
                float(logits(model, [seen.only(list(range(t + 1)))])[0, 0]), abs=1e-4
            )
            rest = [i for i in range(4) if i != t]
            expected = float(logits(model, [seen])[0, 0] - logits(model, [seen.only(rest)])[0, 0])
            assert found.influence[t] == pytest.approx(expected, abs=1e-4)
    assert float(found.attention.sum()) == pytest.approx(1.0, abs=1e-5)
    single = explain_when(model, sequence(1), 0)
    assert (single.influence.tolist(), single.turning(1.0)) == ([0.0], 0)


@pytest.mark.parametrize("at", [1, 2, 3])
def test_the_turning_visit_is_the_one_at_which_it_changed(at):
    found = explain_when(Bright(), spot(at=at), 0)
    assert found.turning(1.0) == at


def test_the_turning_visit_of_a_no_is_the_one_that_speaks_against():
    falling = When(torch.ones(4) / 4, torch.tensor([3.0, 2.5, -2.0, -2.5]), torch.zeros(4))
    assert falling.turning(-1.0) == 2
