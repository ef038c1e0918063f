import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from common.config import dump_yaml, load_yaml
from common.models.encoders import ENCODERS
from common.plan import Model, Plan, Training, canonical_json, diff_plans

plans = st.builds(
    Plan,
    name=st.from_regex(r"[a-z0-9][a-z0-9._-]{0,20}", fullmatch=True),
    seed=st.integers(0, 2**32 - 1),
    rounds=st.integers(1, 1000),
    training=st.builds(
        Training,
        learning_rate=st.floats(1e-9, 1e3),
        clip_norm=st.none() | st.floats(1e-3, 1e3),
        optimizer=st.sampled_from(["sgd", "adam", "adamw"]),
    ),
    model=st.builds(
        Model,
        width=st.integers(4, 512),
        bidirectional=st.booleans(),
        pooling=st.sampled_from(["last", "mean"]),
    ),
)


@example(Plan(name="0e0"))  # text that looks like a number
@given(plans)
def test_a_plan_survives_yaml_with_its_hash(tmp_path_factory, plan):
    path = tmp_path_factory.mktemp("plan") / "plan.yaml"
    path.write_text(dump_yaml(plan))
    again = load_yaml(path, Plan)
    assert again == plan
    assert again.sha256 == plan.sha256


@given(plans, plans)
def test_the_diff_is_empty_exactly_for_equal_plans(one, other):
    assert (diff_plans(one, other) == []) == (one == other) == (one.sha256 == other.sha256)


def test_the_diff_reads_like_a_sentence():
    before, after = Plan(name="a"), Plan(name="a", rounds=3, training=Training(clip_norm=None))
    assert diff_plans(before, after) == ["rounds: 10 -> 3", "training.clip_norm: 1.0 -> null"]


def test_the_hash_depends_on_values_not_on_order_or_spacing():
    tree = Plan(name="a").model_dump(mode="json")
    backwards = dict(reversed(list(tree.items())))
    assert canonical_json(tree) == canonical_json(json.loads(json.dumps(backwards, indent=4)))


def test_a_plan_cannot_be_changed():
    with pytest.raises(ValidationError):
        Plan(name="a").rounds = 5


def test_every_encoder_of_the_plan_exists():
    assert set(Model.model_fields["encoder"].annotation.__args__) == set(ENCODERS)
