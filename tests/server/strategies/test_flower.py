"""What the server adds to Flower's strategies: SCAFFOLD, and refusing rules that so few sites cannot
support."""

import numpy as np
import pytest

from common import wire
from common.errors import ConfigError
from common.models import build_model
from common.plan import Federation, Strategy
from server.observer import Silent
from server.rounds import RoundLoop
from server.strategies import build_strategy, least_sites, require_enough_sites
from tests.helpers.grids import ScriptedGrid, reply
from tests.helpers.plans import small_plan


@pytest.mark.parametrize(
    ("name", "options", "enough", "says"),
    [
        ("Krum", {"num_malicious_nodes": 1}, 5, "it needs at least 5 against 1 hostile ones"),
        ("MultiKrum", {"num_malicious_nodes": 2, "num_nodes_to_select": 2}, 7, "it needs at least 7"),
        ("MultiKrum", {"num_malicious_nodes": 1, "num_nodes_to_select": 5}, 6, "at most 4"),
        ("Bulyan", {"num_malicious_nodes": 1}, 7, "it needs at least 7 against 1"),
        ("FedMedian", {}, 3, "it needs at least 3; choose"),
        ("FedTrimmedAvg", {"beta": 0.2}, 5, "cuts off 0 on each side"),
    ],
)
def test_a_rule_that_so_few_sites_cannot_support_is_refused_by_name(tmp_path, name, options, enough, says):
    plan = small_plan(strategy=Strategy(name=name, options=options))
    require_enough_sites(plan, enough)
    require_enough_sites(plan, 1)  # a site alone, as the simulation trains beside the federation
    with pytest.raises(ConfigError, match=f"strategy {name}.*{says}"):
        require_enough_sites(plan, enough - 1)
    grid = ScriptedGrid(lambda node, message: pytest.fail("a site was asked to train"), n_sites=enough - 1)
    with pytest.raises(ConfigError, match=name):
        RoundLoop(grid, plan, wire.Schema.of(build_model(plan)), tmp_path, Silent()).run(
            wire.get_weights(build_model(plan))
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("FedMedian", {}), ("FedTrimmedAvg", {"beta": 0.2}), ("Krum", {"num_malicious_nodes": 1}),
        ("MultiKrum", {"num_malicious_nodes": 1, "num_nodes_to_select": 2}), ("Bulyan", {"num_malicious_nodes": 1}),
    ],
)  # fmt: skip
def test_one_hostile_site_cannot_carry_a_robust_rule_away(tmp_path, name, options):
    """All honest sites agree within 0.01; one sends theirs inverted and five hundred times as large."""
    plan = small_plan(
        rounds=1, strategy=Strategy(name=name, options=options), federation=Federation(max_update_norm=1e6)
    )
    schema, first = wire.Schema.of(build_model(plan)), wire.get_weights(build_model(plan))
    n_sites = 7 if name == "Bulyan" else 5

    def script(node, message):
        rng = np.random.default_rng(node)
        honest = {
            n: np.full(s, 0.1, np.float32) + 0.01 * rng.uniform(-1, 1, s).astype(np.float32)
            for n, s in schema.shapes.items()
        }
        return reply(message, honest if node != 3 else {n: -500 * u for n, u in honest.items()})

    found = (
        RoundLoop(ScriptedGrid(script, n_sites), plan, schema, tmp_path / name, Silent()).run(first).weights
    )
    assert all(np.abs(found[n] - first[n] - 0.1).max() <= 0.0101 for n in first)
    plain = small_plan(rounds=1, federation=Federation(max_update_norm=1e6))
    carried = (
        RoundLoop(ScriptedGrid(script, n_sites), plain, schema, tmp_path / "FedAvg", Silent())
        .run(first)
        .weights
    )
    assert min(np.abs(carried[n] - first[n] - 0.1).max() for n in first) > 1


def test_a_site_alone_is_its_own_median(tmp_path):
    plan = small_plan(rounds=1, strategy=Strategy(name="Krum", options={"num_malicious_nodes": 1}))
    schema, first = wire.Schema.of(build_model(plan)), wire.get_weights(build_model(plan))
    update = {name: np.full(shape, 0.25, np.float32) for name, shape in schema.shapes.items()}
    grid = ScriptedGrid(lambda node, message: reply(message, update), n_sites=1)
    found = RoundLoop(grid, plan, schema, tmp_path, Silent()).run(first).weights
    assert all(np.allclose(found[n], first[n] + 0.25) for n in first)


def test_methods_that_live_at_the_sites_take_their_own_options_alone():
    build_strategy(small_plan(strategy=Strategy(name="Ditto", options={"lambda_": 0.5})))
    with pytest.raises(ValueError, match="FedBN has no 'lambda_'"):
        Strategy(name="FedBN", options={"lambda_": 0.5})


@pytest.mark.parametrize(
    ("name", "options", "participation", "least"),
    [
        ("FedAvg", {}, 1.0, 1),
        ("FedMedian", {}, 1.0, 3),
        ("FedMedian", {}, 0.5, 6),
        ("Krum", {"num_malicious_nodes": 1}, 0.4, 13),
    ],
)
def test_so_many_sites_must_be_there_that_a_round_asks_enough(name, options, participation, least):
    plan = small_plan(
        strategy=Strategy(name=name, options=options), federation={"participation": participation}
    )
    assert least_sites(plan) == least
