"""Which rows belong to which patient, against plain loops."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from client.training.private.rows import PackedRows, Rows, packing
from tests.helpers.cohorts import CPU


@st.composite
def owners(draw):
    counts = draw(st.lists(st.integers(1, 5), min_size=1, max_size=5))
    owner = [patient for patient, n in enumerate(counts) for _ in range(n)]
    return draw(st.permutations(owner)), len(counts)


@given(owners())
def test_gathering_adding_and_spreading_are_loops_over_patients(drawn):
    owner, n = drawn
    rows, x = Rows(torch.tensor(owner), n, CPU), torch.arange(2.0 * len(owner)).view(-1, 2) + 1
    gathered = rows.gather(x)
    assert gathered.shape == (n, max(owner.count(p) for p in range(n)), 2)
    for patient in range(n):
        own = [x[i] for i, p in enumerate(owner) if p == patient]
        assert torch.equal(gathered[patient, : len(own)], torch.stack(own))  # in their order
        assert not gathered[patient, len(own) :].any()
        torch.testing.assert_close(rows.sum(x)[patient], torch.stack(own).sum(0))
    factors = torch.rand(n)
    assert rows.spread(factors).tolist() == [factors[p].item() for p in owner]


@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=5).map(lambda c: sorted(c, reverse=True)), st.randoms()
)
def test_packed_rows_are_blocks_of_the_first_patients(counts, random):
    owner = [patient for patient, n in enumerate(counts) for _ in range(n)]
    random.shuffle(owner)
    order, packed = packing(torch.tensor(owner), len(counts), CPU)
    assert sorted(order.tolist()) == list(range(len(owner)))
    told = []
    for first, steps, n in packed.runs:
        assert first == len(told)
        told += list(range(n)) * steps
    assert torch.tensor(owner)[order].tolist() == told == packed.owner.tolist()


def test_patients_must_be_numbered_by_falling_number_of_rows():
    with pytest.raises(ValueError, match="falling"):
        PackedRows(torch.tensor([0, 1, 1]), 2, CPU)
