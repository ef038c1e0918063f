"""Would you train on this? Each doubt by itself, and none."""

import numpy as np
import pytest

from client.imaging.cohort import Cohort, build_cohort
from client.imaging.frames import Frame, InMemory
from client.imaging.outcome import Reason, Tally
from client.imaging.quality.greys import Greys
from client.imaging.quality.verdict import judge
from client.imaging.sequence import Collection, Sequence
from tests.helpers.plans import small_plan

PLAN = small_plan()


def cohort_of(folder, n=60, positive=0.5, tally=None):
    sequences = [
        Sequence(
            f"p{k}", (Frame(0.0, InMemory(np.full((16, 16), k / n, np.float32))),),
            np.array([k < positive * n], np.float32), "one",
        )
        for k in range(n)
    ]  # fmt: skip
    build_cohort(folder, Collection(sequences, tally or Tally()), PLAN.input, PLAN.findings, b"key", "stamp")
    return Cohort.open(folder)


def greys(distance=None, cut_off=0.0):
    return {"one": Greys(10, [1.0], distance, cut_off)}


def test_a_usual_cohort_is_a_yes(tmp_path):
    found = judge(cohort_of(tmp_path / "c"), PLAN, 0, 0, greys())
    assert (
        found.line == "Would you train on this? Yes: 60 patients, 60 sequences, and nothing that stands out."
    )


def counted(reason, n):
    tally = Tally()
    tally.add(reason, n)
    return tally


@pytest.mark.parametrize(
    ("changes", "pixels", "said"),
    [
        ({"tally": counted(Reason.NO_FRAMES, 20)}, {}, "20 of 80 labelled patients have no usable images"),
        ({"tally": counted(Reason.BURNT_IN, 7)}, {}, "7 of 60 images: "),
        ({"positive": 0.1}, {}, "pneumonia: only 6 patients in the smaller class"),
        ({}, {"shared": 2}, "2 images with the same pixels under two patients"),
        ({}, {"blank": 3}, "3 blank images"),
        ({}, {"greys": greys(0.3)}, "grey values unlike the other scanners': one"),
        ({}, {"greys": greys(cut_off=0.9)}, "90 % of the images lie mostly at the ends"),
    ],
)
def test_a_doubt_is_named_and_asks_for_a_look(tmp_path, changes, pixels, said):
    given = {"shared": 0, "blank": 0, "greys": greys(), **pixels}
    found = judge(cohort_of(tmp_path / "c", **changes), PLAN, **given)
    assert found.word == "look first"
    assert said in found.line


@pytest.mark.parametrize(
    "tally", [counted(Reason.NO_FRAMES, 3), counted(Reason.BURNT_IN, 4), counted(Reason.UNLABELLED, 90)]
)
def test_a_few_are_no_doubt(tmp_path, tally):
    assert judge(cohort_of(tmp_path / "c", tally=tally), PLAN, 0, 0, greys()).word == "yes"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"n": 3}, "training patients, the plan asks for 4"),
        ({"positive": 1.0}, "training patients have it, 0 have it not"),
    ],
)
def test_what_cannot_train_is_a_no(tmp_path, changes, said):
    found = judge(cohort_of(tmp_path / "c", **changes), PLAN, 5, 5, greys(0.9))
    assert found.word == "no"
    assert said in found.line
