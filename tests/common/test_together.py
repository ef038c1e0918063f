"""Patients of several hospitals: nobody becomes another."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from common.together import told_apart

NAMES = st.lists(
    st.lists(st.sampled_from(["a", "b", "c", "dd"]), min_size=1, max_size=6), min_size=1, max_size=4
)


@given(NAMES)
def test_there_are_as_many_people_as_in_the_hospitals(hospitals):
    by_hospital = [np.array(names) for names in hospitals]
    together = told_apart(by_hospital)
    assert len(set(together.tolist())) == sum(len(set(names)) for names in hospitals)
    start = 0
    for names in by_hospital:  # and sequences of one person stay together
        mine = together[start : start + len(names)]
        same = names[:, None] == names[None]
        assert ((mine[:, None] == mine[None]) == same).all()
        start += len(names)


def test_names_that_tell_people_apart_stay_as_they_are():
    assert told_apart([np.array(["a", "b"]), np.array(["c"])]).tolist() == ["a", "b", "c"]
