"""The apps that `flwr run .` starts, driven as Flower drives them: nodes that know only their number."""

import tomllib
from pathlib import Path

import pytest
from flwr.app import Context, RecordDict

from common.config import dump_yaml
from common.errors import ConfigError
from server.checkpoint import load_checkpoint
from simulation.flower import client_app, server_app
from simulation.grid import SequentialGrid
from simulation.scenario import DicomData, PhantomData
from tests.helpers.hospital import hospital
from tests.helpers.plans import small_scenario


def run(plan_file, out, n_nodes):
    config = {"plan": str(plan_file), "out": str(out)}
    grid = SequentialGrid(client_app, [{}] * n_nodes)
    for number, context in grid._contexts.items():
        context.node_config = {"partition-id": number - 1, "num-partitions": n_nodes}
        context.run_config = dict(config)
    server_app(
        grid, Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config=dict(config))
    )


@pytest.mark.slow
def test_as_many_synthetic_hospitals_as_nodes(tmp_path):
    scenario = small_scenario(data=PhantomData(sites=7, patients=24))
    (tmp_path / "plan.yaml").write_text(dump_yaml(scenario))
    run(tmp_path / "plan.yaml", tmp_path / "runs", 2)
    found = load_checkpoint(tmp_path / "runs/1/arms/federated", scenario.plan.sha256)
    assert found.round == 2
    assert sorted(found.history[0].sites) == ["hospital-a", "hospital-b"]


def test_real_hospitals_and_nodes_must_be_as_many(tmp_path):
    (tmp_path / "data").mkdir()
    for name in ("east", "west"):
        hospital(tmp_path / "data" / name, patients=24)
    (tmp_path / "plan.yaml").write_text(
        dump_yaml(small_scenario(data=DicomData(path=str(tmp_path / "data"))))
    )
    with pytest.raises(
        ConfigError, match=r"simulates 3 nodes, the plan has 2 hospitals; add .*num-supernodes=2"
    ):
        run(tmp_path / "plan.yaml", tmp_path / "runs", 3)


def test_the_project_names_these_apps():
    app = tomllib.loads(Path("pyproject.toml").read_text())["tool"]["flwr"]["app"]
    assert app["components"] == {
        "serverapp": "simulation.flower:server_app",
        "clientapp": "simulation.flower:client_app",
    }
    assert Path(app["config"]["plan"]).is_file()
