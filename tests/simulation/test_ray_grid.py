"""Sites on the machines of a Ray cluster: two nodes on this machine, on loopback."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from safetensors.numpy import load_file

from common.config import dump_yaml
from common.errors import ConfigError
from common.plan import Training
from simulation.scenario import Machine, PhantomData
from tests.helpers.deployment import free_port
from tests.helpers.plans import small_scenario
from tests.helpers.simulated import run

LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}
RAY = Machine(engine="ray", threads=1, arms=())


@pytest.fixture(scope="module")
def ray_grid():
    os.environ.update(LOOPBACK)
    try:
        from simulation import ray_grid
    except ConfigError as e:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(str(e))
    return ray_grid


@pytest.fixture
def cluster(ray_grid, monkeypatch):
    """Two nodes of one core; its processes are its own."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.other = cluster.add_node(num_cpus=1)
        monkeypatch.setattr(ray_grid, "CLUSTER", cluster.address)
        yield cluster
    finally:
        cluster.shutdown()


def ask(grid, do, *nodes):
    messages = [Message(RecordDict({"config": ConfigRecord({"do": do})}), n, "query") for n in nodes]
    return {reply.metadata.src_node_id: reply for reply in grid.send_and_receive(messages, timeout=60)}


@pytest.mark.slow
def test_a_lost_workers_sites_go_on_at_another_and_a_site_that_ends_workers_fails(ray_grid, caplog):
    grid = ray_grid.RayGrid(
        "tests.helpers.apps:fake_app", [{}] * 4, Machine(engine="ray", workers=3, threads=1)
    )
    try:
        replies = ask(grid, "300000", 1, 2, 3, 4)
        assert {n: r.content["metrics"]["node"] for n, r in replies.items()} == {1: 1, 2: 2, 3: 3, 4: 4}
        assert len({r.content["metrics"]["pid"] for r in replies.values()}) == 3
        assert ask(grid, "refuse", 2)[2].error.reason == "not with me"
        assert "4711" not in ask(grid, "break", 1)[1].error.reason
        assert "two workers of Ray were lost" in ask(grid, "die", 1)[1].error.reason
        assert caplog.text.count("its sites go on at the ") == 2
        assert all(reply.has_content() for reply in ask(grid, "5", 1, 2, 3, 4).values())
        assert "no worker of Ray is left" in ask(grid, "die", 2)[2].error.reason
        assert "no worker of Ray is left" in ask(grid, "5", 3)[3].error.reason
    finally:
        grid.close()


def nodes(*resources):
    return [
        {"Alive": alive, "NodeID": f"n{i}", "NodeManagerAddress": f"10.0.0.{i}", "Resources": {"CPU": cpus, "GPU": gpus}}
        for i, (cpus, gpus, alive) in enumerate(resources)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "there", "at", "share"),
    [
        ({}, [(2, 0, True), (0, 0, True), (1, 0, True), (8, 0, False)], "n0 n2 n0", 0.0),
        ({"threads": 4}, [(9, 0, True), (3, 0, True)], "n0 n0", 0.0),
        ({"workers": 2}, [(2, 0, True), (2, 0, True)], "n0 n1", 0.0),
        ({}, [(8, 1, True), (8, 2, True)], "n0 n1 n1", 1.0),
        ({"workers": 6}, [(8, 1, True), (8, 2, True)], "n0 n1 n0 n1 n1 n1", 0.5),
        ({"device": "cpu", "workers": 1}, [(1, 8, True)], "n0", 0.0),
    ],
)
def test_workers_go_where_there_is_room_by_turns(ray_grid, monkeypatch, changes, there, at, share):
    monkeypatch.setattr(ray_grid.ray, "nodes", lambda: nodes(*there))
    places, found = ray_grid._places(Machine(**{"engine": "ray", "threads": 1, **changes}))
    assert (" ".join(name for name, _ in places), found) == (at, share)


def test_more_workers_than_there_is_room_for_are_refused(ray_grid, monkeypatch):
    monkeypatch.setattr(ray_grid.ray, "nodes", lambda: nodes((4, 0, True), (3, 0, True)))
    with pytest.raises(ConfigError, match="found 4 of 2 threads each, expected at most 3"):
        ray_grid._places(Machine(engine="ray", threads=2, workers=4))


def test_a_machine_without_the_runs_files_is_found_out(ray_grid, tmp_path):
    remote, files = ray_grid.Remote("tests.helpers.apps:fake_app", {}, 1), [tmp_path / "a", tmp_path / "b"]
    for file in files:
        file.write_text(file.name)
    seen = {str(file): ray_grid.sha256_of(str(file)) for file in files}
    assert remote.looked(seen) == (ray_grid.programs(), None)
    files[1].write_text("another")
    assert remote.looked(seen)[1] == str(files[1])
    files[0].unlink()
    assert remote.looked(seen)[1] == str(files[0])


@pytest.mark.parametrize(
    ("look", "said"),
    [
        (("pneumofed 0.1, torch 2", None), r"10\.0\.0\.7 has pneumofed 0\.1, torch 2, this one pneumofed"),
        (
            (None, "/runs/plan.yaml"),
            r"10\.0\.0\.7 does not see /runs/plan\.yaml .* must share the run's folder",
        ),
    ],
)
def test_a_machine_that_cannot_take_part_is_one_line(ray_grid, monkeypatch, look, said):
    monkeypatch.setattr(ray_grid.ray, "get", lambda one: (one[0] or ray_grid.programs(), one[1]))
    with pytest.raises(ConfigError, match=said):
        ray_grid._judge("10.0.0.7", look)


def test_a_cluster_that_does_not_answer_is_one_line(ray_grid, monkeypatch):
    monkeypatch.setattr(ray_grid, "CLUSTER", f"127.0.0.1:{free_port()}")
    with pytest.raises(ConfigError, match=r"^RAY_ADDRESS: 127\.0\.0\.1:.* no Ray cluster .*refused"):
        ray_grid._connect(RAY)


@pytest.mark.slow
def test_a_node_killed_mid_round_changes_no_bit(cluster, tmp_path):
    training = Training(batch_size=4, learning_rate=0.1, epochs=5)
    scenario = small_scenario(
        rounds=3, training=training, data=PhantomData(sites=4, patients=20), simulation=RAY
    )
    (tmp_path / "plan.yaml").write_text(dump_yaml(scenario))
    words = [sys.executable, "-m", "pneumofed.cli", "simulate", "plan.yaml", "--out", "ray", "--json"]
    process = subprocess.Popen(
        words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "RAY_ADDRESS": cluster.address},
    )  # fmt: skip
    while process.poll() is None and not (tmp_path / "ray/arms/federated/checkpoint.safetensors").exists():
        time.sleep(0.05)
    cluster.remove_node(cluster.other, allow_graceful=False)
    said, problems = process.communicate(timeout=120)
    assert process.returncode == 0, problems
    assert "a worker of Ray at 127.0.0.1 is lost" in problems
    assert said.startswith("{")
    result = run(scenario.model_copy(update={"simulation": Machine(threads=1, arms=())}), tmp_path / "here")
    assert len(result.sites) == 4
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("ray", "here"))
    assert all(np.array_equal(one[k], two[k]) for k in one)
