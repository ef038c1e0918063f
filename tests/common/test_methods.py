"""The table of methods against Flower's own signatures, and what the plan refuses because of it."""

import inspect
import math

import pytest
from flwr.serverapp import strategy as flower
from hypothesis import given
from hypothesis import strategies as st

from client.methods import TRAINERS
from common.config import validate
from common.errors import ConfigError
from common.methods import METHODS, Option, Stays
from common.plan import Plan, Strategy
from server.strategies import build_strategy
from server.strategies.flower import AGGREGATES
from tests.helpers.plans import small_plan

OURS = {
    "fraction_train", "fraction_evaluate", "min_train_nodes", "min_evaluate_nodes", "min_available_nodes",
    "weighted_by_key", "arrayrecord_key", "configrecord_key", "train_metrics_aggr_fn", "evaluate_metrics_aggr_fn",
    "selection_rule",  # code, not a value
}  # fmt: skip


def training_of(name):
    return (
        {"training": small_plan().training.model_copy(update={"momentum": 0.0})}
        if METHODS[name].plain_sgd
        else {}
    )


@pytest.mark.parametrize("name", METHODS)
def test_every_row_builds_a_rule_with_every_one_of_its_options(name):
    options = {k: int(o.default) if o.whole else o.default for k, o in METHODS[name].options.items()}
    assert build_strategy(small_plan(strategy=Strategy(name=name, options=options), **training_of(name)))


@pytest.mark.parametrize("name", [name for name in METHODS if hasattr(flower, name)])
def test_options_are_flower_s_by_name(name):
    known = set(inspect.signature(getattr(flower, name)).parameters) - OURS
    at_server = {k for k, o in METHODS[name].options.items() if not o.at_site}
    assert at_server == known


def test_rows_and_files_fit():
    assert TRAINERS.keys() <= METHODS.keys()
    assert AGGREGATES.keys() <= METHODS.keys()
    for name, method in METHODS.items():
        assert (method.stays is not Stays.NOTHING) <= (
            name in TRAINERS
        )  # who keeps something trains otherwise
        assert any(option.at_site for option in method.options.values()) <= (name in TRAINERS)
        assert method.control <= (name in AGGREGATES)


@given(st.text(min_size=1, max_size=60))
def test_an_option_that_is_not_in_the_table_is_refused_printably(option):
    for name, method in METHODS.items():
        if option in method.options:
            continue
        tree = {"name": "x", "strategy": {"name": name, "options": {option: 1.0}}}
        with pytest.raises(ConfigError) as problem:
            validate(tree, Plan, "plan.yaml")
        assert str(problem.value).isprintable()


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("FedAvgM", "server_momentum", 1.5), ("FedAvgM", "server_momentum", -0.1), ("FedAdam", "beta_1", 1.0),
        ("FedTrimmedAvg", "beta", 0.5), ("Krum", "num_malicious_nodes", 1.5), ("Krum", "num_malicious_nodes", -1),
        ("MultiKrum", "num_nodes_to_select", 0), ("FedProx", "proximal_mu", -1e-9), ("Ditto", "lambda_", math.inf),
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_refused_by_name(name, option, value):
    tree = {"name": "x", "strategy": {"name": name, "options": {option: value}}}
    with pytest.raises(ConfigError, match=option):
        validate(tree, Plan, "plan.yaml")


@given(st.floats(allow_nan=True, allow_infinity=True), st.booleans(), st.booleans())
def test_an_option_s_range_is_what_it_says(value, whole, open_high):
    option = Option(0.0, low=-2.0, high=3.0, whole=whole, open_high=open_high)
    inside = -2.0 <= value <= 3.0 and not (open_high and value == 3.0) and not (whole and value % 1)
    assert (option.objection(value) is None) == bool(inside)


def test_the_plan_s_value_counts_then_the_default_then_nothing():
    assert Strategy(name="Ditto").option("lambda_") == 0.1
    assert Strategy(name="Ditto", options={"lambda_": 2}).option("lambda_") == 2.0
    assert Strategy(name="FedAvg").option("lambda_") == 0.0


@pytest.mark.parametrize("name", [n for n, m in METHODS.items() if not m.private])
def test_what_stays_at_a_site_does_not_go_with_privacy(name):
    tree = {"name": "x", "strategy": {"name": name}, "privacy": {"epsilon": 3.0, "delta": 1e-5}}
    with pytest.raises(ConfigError, match="privacy does not account for"):
        validate(tree, Plan, "plan.yaml")
