import pytest
from pydantic import ValidationError

from common.plan import Evaluation, Plan, Split


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sensitivity": 0.95}, "set threshold sensitivity too"),
        ({"alone": True}, "set final too"),
        ({"final": True, "cross": 2}, "set alone too"),
        ({"select": "best", "every": 0}, "found every 0"),
        ({"patience": 2}, "set select best too"),
    ],
)
def test_what_goes_with_something_else_is_refused_without_it(changes, said):
    with pytest.raises(ValidationError, match=said):
        Evaluation(**changes)


def test_another_wanted_sensitivity_is_another_plan():
    plan = Plan(name="a", evaluation={"threshold": "sensitivity", "sensitivity": 0.95})
    assert plan.sha256 != Plan(name="a", evaluation={"threshold": "sensitivity"}).sha256


def test_a_split_leaves_patients_to_train_on():
    with pytest.raises(ValidationError, match=r"found validation \+ test = 1, expected less"):
        Split(validation=0.5, test=0.5)
