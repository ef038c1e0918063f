import json
import os
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.imaging.cohort import (
    Cohort,
    build_cohort,
    require_trainable,
    split_position,
)
from client.imaging.outcome import Tally
from client.imaging.sequence import Collection, Sequence
from common.errors import DataError
from common.plan import Input, Split
from tests.helpers.cohorts import make_cohort, make_sequences
from tests.helpers.plans import small_plan


def test_frames_stay_in_the_file(tmp_path):
    folder, before = make_cohort(tmp_path / "c"), os.listdir("/proc/self/fd")
    cohort = Cohort.open(folder)
    assert os.listdir("/proc/self/fd") == before  # a simulation has a thousand of them open
    first = int(cohort.frames(0)[0, 0, 0])
    with (folder / "frames.bin").open("r+b") as file:
        file.write(bytes([255 - first]))
    assert cohort.frames(0)[0, 0, 0] == 255 - first
    with pytest.raises(ValueError, match="read-only"):
        cohort.frames(0)[...] = 0


def test_several_folders_are_one_cohort(tmp_path):
    a, b = make_cohort(tmp_path / "a", 10, seed=1), make_cohort(tmp_path / "b", 7, seed=2)
    one, two, both = Cohort.open(a), Cohort.open(b), Cohort.open(a, b)
    assert len(both) == 17
    np.testing.assert_array_equal(both.frames(12), two.frames(2))
    np.testing.assert_array_equal(both.frames(3), one.frames(3))
    with pytest.raises(DataError, match="together"):
        Cohort.open(a, make_cohort(tmp_path / "other", 7, plan=small_plan(input=Input(size=24))))


def test_a_damaged_cohort_is_refused_in_words(tmp_path):
    for name in ("frames.bin", "frames.arrow", "sequences.arrow", "cohort.json"):
        folder = make_cohort(tmp_path / name.replace(".", "-"))
        (folder / name).write_bytes(b"{}")
        with pytest.raises(DataError, match="not a whole cohort"):
            Cohort.open(folder)
    folder = make_cohort(tmp_path / "old")
    about = json.loads((folder / "cohort.json").read_text())
    (folder / "cohort.json").write_text(json.dumps({**about, "format": 0}))
    with pytest.raises(DataError, match="format 0"):
        Cohort.open(folder)
    shutil.rmtree(folder)
    with pytest.raises(DataError):
        Cohort.open(folder)


@given(st.floats(0, 0.45), st.floats(0.01, 0.45))
def test_a_patient_is_in_one_split_and_shares_are_kept(tmp_path_factory, validation, test):
    shares = Split(validation=validation, test=test)
    where = np.array([split_position(f"{i:032x}") for i in range(3000)])
    assert abs((where < test).mean() - test) < 0.05
    folder = tmp_path_factory.getbasetemp() / "split-cohort"
    if not folder.exists():
        sequences = make_sequences(40)
        again = [Sequence(s.patient, s.frames[:1], s.labels) for s in sequences]  # two sequences a patient
        build_cohort(
            folder, Collection(sequences + again, Tally()), Input(size=16), ("pneumonia",), b"key", "s"
        )
    cohort = Cohort.open(folder)
    parts = {name: set(cohort.patients[i]) for name, i in cohort.split(shares).items()}
    assert sum(len(p) for p in parts.values()) == len(set().union(*parts.values())) == 40


def test_who_else_is_there_does_not_move_a_patient(tmp_path):
    few, many = (
        Cohort.open(make_cohort(tmp_path / "few", 10)),
        Cohort.open(make_cohort(tmp_path / "many", 30)),
    )
    split = small_plan().split
    tests = [set(c.patients[c.split(split)["test"]]) for c in (few, many)]
    assert tests[0] == tests[1] & set(few.patients)


def test_untrainable_cohorts_are_refused(tmp_path):
    sequences = [s for s in make_sequences(40) if s.labels[0] == 1]
    build_cohort(
        tmp_path / "one", Collection(sequences, Tally()), Input(size=16), ("pneumonia",), b"key", "s"
    )
    with pytest.raises(
        DataError, match=r"here: pneumonia: found only positive ones among \d+ training patients"
    ):
        require_trainable(Cohort.open(tmp_path / "one"), Split(), 4, "here")
    few = Cohort.open(make_cohort(tmp_path / "few", 30))
    n_train = len(few.split(Split())["train"])
    assert n_train < 30
    require_trainable(few, Split(), n_train, "here")
    with pytest.raises(
        DataError, match=f"here: found {n_train} training patients, the plan's minimum is {n_train + 1}"
    ):
        require_trainable(few, Split(), n_train + 1, "here")
