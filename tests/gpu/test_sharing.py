"""Sites that share one GPU: side by side in two processes, and when its memory runs out for one of them."""

import numpy as np
import pytest
import torch
from flwr.app import ConfigRecord, Message, RecordDict
from safetensors.numpy import load_file

from client.app import app
from client.worker import answer, make_context
from common import wire
from common.models import build_model
from server.observer import Silent
from simulation import runs
from simulation.grid import SequentialGrid
from simulation.scenario import Machine, PhantomData
from simulation.simulate import simulate
from tests.helpers.plans import small_plan, small_scenario

pytestmark = pytest.mark.gpu


def federated_weights(folder, **machine):
    data, machine = PhantomData(sites=2, patients=24), Machine(threads=1, device="cuda:0", arms=(), **machine)
    scenario = small_scenario(data=data, rounds=2, simulation=machine)
    folder.mkdir()
    runs.start(folder, scenario)
    simulate(scenario, folder, lambda arm: Silent())
    return load_file(folder / "model.safetensors")


def test_two_processes_on_one_gpu_give_the_bits_of_one(gpu, tmp_path):
    one = federated_weights(tmp_path / "one")
    two = federated_weights(tmp_path / "two", engine="pool", workers=2)
    assert one.keys() == two.keys()
    for name, weights in one.items():
        assert np.array_equal(weights, two[name]), name


def test_memory_that_runs_out_costs_one_reply(gpu, federation):
    plan = small_plan()
    (node,) = federation(plan, 1)
    node["device"] = "cuda:0"
    SequentialGrid(app, [node])  # sets the identity that Flower's messages need
    context = make_context(1, node)
    config = ConfigRecord({wire.PLAN_SHA256: plan.sha256, wire.ROUND: 1})
    arrays = wire.pack(wire.get_weights(build_model(plan)))

    def ask():
        return answer(
            app, Message(RecordDict({wire.CONFIG: config, wire.ARRAYS: arrays}), 1, "train"), context
        )

    assert not ask().has_error()
    torch.cuda.empty_cache()
    held, total = torch.cuda.memory_allocated(gpu), torch.cuda.get_device_properties(gpu).total_memory
    torch.cuda.set_per_process_memory_fraction((held + 2**20) / total, gpu)
    try:
        lost = ask()
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, gpu)
    assert lost.error.code == wire.SITE_CRASHED
    assert "OutOfMemoryError" in lost.error.reason
    assert not ask().has_error()
