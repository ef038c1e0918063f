import pytest

from common.plan import Plan


def test_labels_of_visits_are_another_plan_and_those_of_patients_the_same():
    plan = Plan(name="a")
    assert "label" not in plan.input.model_dump()
    assert Plan(name="a", input={"label": "patient"}).sha256 == plan.sha256
    assert Plan(name="a", input={"label": "visit"}).sha256 != plan.sha256
    with pytest.raises(ValueError, match="label visit is about serial X-rays"):
        Plan(name="a", input={"label": "visit", "modality": "ct"})


def test_at_least_so_many_frames_are_no_more_than_at_most():
    with pytest.raises(ValueError, match="found min_frames 9, expected at most max_frames, which is 8"):
        Plan(name="a", input={"min_frames": 9})
