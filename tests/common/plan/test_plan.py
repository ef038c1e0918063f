import pytest
from hypothesis import example, given
from pydantic import ValidationError

from common.config import dump_yaml, load_yaml
from common.plan import Plan
from tests.helpers.plans import PLANS


@example(Plan(name="0e0"))  # text that looks like a number
@given(PLANS)
def test_a_plan_survives_yaml_with_its_hash(tmp_path_factory, plan):
    path = tmp_path_factory.mktemp("plan") / "plan.yaml"
    path.write_text(dump_yaml(plan))
    again = load_yaml(path, Plan)
    assert again == plan
    assert again.sha256 == plan.sha256


def test_a_plan_cannot_be_changed():
    with pytest.raises(ValidationError):
        Plan(name="a").rounds = 5
