import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.imaging.sequence import Sequence
from common.errors import DataError
from simulation.partition import deal_out


def patients(n, sequences_each=2):
    labels = [np.array([i % 3 == 0], np.float32) for i in range(n)]
    return [Sequence(f"p{i}", (), labels[i]) for i in range(n) for _ in range(sequences_each)]


@settings(max_examples=40)
@given(st.integers(1, 6), st.none() | st.floats(0.3, 100), st.integers(0, 1000))
def test_every_sequence_is_dealt_once_and_patients_stay_whole(n_sites, alpha, seed):
    parts = deal_out(patients(200), n_sites, alpha, np.random.default_rng(seed), 4)
    names = [{s.patient for s in part} for part in parts]
    assert sum(len(part) for part in parts) == 400
    assert len(set().union(*names)) == sum(map(len, names)) == 200
    for part in parts:
        assert len({s.patient for s in part}) >= 4
        assert {float(s.labels[0]) for s in part} == {0.0, 1.0}


def test_equal_shares_are_equal_and_dirichlet_is_not():
    rng = np.random.default_rng(0)
    equal = [len(p) for p in deal_out(patients(300), 5, None, rng, 4)]
    uneven = [len(p) for p in deal_out(patients(300), 5, 0.5, rng, 4)]
    assert max(equal) - min(equal) <= 4
    assert max(uneven) > 2 * min(uneven)


def test_an_impossible_deal_is_refused_in_words():
    with pytest.raises(DataError, match="fewer sites"):
        deal_out(patients(30), 10, 0.1, np.random.default_rng(0), 20)


def test_a_patient_who_changes_is_of_both_classes():
    patients = [Sequence(f"p{i}", (), np.array([k], np.float32)) for i in range(8) for k in (0, 1)]
    parts = deal_out(patients, 2, None, np.random.default_rng(0), 4)
    for part in parts:
        assert len({s.patient for s in part}) == 4
        assert sorted(float(s.labels[0]) for s in part) == [0] * 4 + [1] * 4
