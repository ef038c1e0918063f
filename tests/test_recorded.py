"""A change that should not alter the numbers does not: small runs give the very bits that were recorded.

Bits depend on the processor's kernels and on torch, so they are recorded by machine; on another machine the same
runs must come within rounding of what was recorded. After a change that should alter the numbers, say so in the
commit and record anew: PNEUMOFED_RECORD=1 pytest tests/test_recorded.py
"""

import hashlib
import json
import os
import platform
import secrets
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from client.governance.accounting import RoundCost
from client.imaging.cohort import Cohort
from client.training.private.round import train_private_round
from common import wire
from common.models import build_model
from common.plan import Privacy
from common.results.form import to_tree
from server.checkpoint import load_checkpoint
from simulation import runs
from simulation.scenario import PhantomData
from simulation.simulate import simulate
from tests.helpers.cohorts import make_cohort
from tests.helpers.plans import small_plan, small_scenario

RECORDED = Path(__file__).with_name("recorded.json")
NOT_NUMBERS = {"format", "seconds", "timing", "device", "versions", "details", "cohorts"}
"""What the clock or the machine says, and what came after the recording: tests/common/test_curves.py,
tests/simulation/test_assess.py."""


def machine() -> str:
    """What decides over the last bit: the processor, with what it can do and how large its caches are, and torch."""
    about: dict[str, str] = {}
    if Path("/proc/cpuinfo").exists():
        lines = (line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines())
        about = {name.strip(): value.strip() for name, _, value in lines}  # of the last core
    kind = "\0".join(about.get(k, "") for k in ("cpu family", "model", "stepping", "cache size", "flags"))
    name = about.get("model name", platform.processor())
    return f"{name} {hashlib.sha256(kind.encode()).hexdigest()[:8]}, torch {torch.__version__.split('+')[0]}"


def digest(weights: dict[str, np.ndarray]) -> str:
    return hashlib.sha256(b"".join(weights[name].tobytes() for name in sorted(weights))).hexdigest()


def numbers_in(tree: object) -> object:
    """A result without what the clock or the machine says."""
    if isinstance(tree, dict):
        return {k: numbers_in(v) for k, v in sorted(tree.items()) if k not in NOT_NUMBERS}
    return [numbers_in(v) for v in tree] if isinstance(tree, list) else tree


def small_run(folder: Path) -> tuple[dict[str, str], dict[str, float]]:
    """Three arms on the phantom: hashes of weights, numbers, checkpoint and plan, and what they come to."""
    scenario = small_scenario(data=PhantomData(sites=2, patients=24), rounds=2)
    out = folder / "run"
    out.mkdir()
    runs.start(out, scenario)
    simulate(scenario, out, lambda arm: Quiet())
    result = json.loads((out / "metrics.json").read_text())
    checkpoint = load_checkpoint(out / "arms" / "federated", scenario.plan.sha256)
    weights = load_file(out / "model.safetensors")
    text = json.dumps(numbers_in({"result": result, "history": to_tree(checkpoint.history)}))
    hashes = {
        "plan": scenario.plan.sha256,
        "weights": digest(weights),
        "checkpoint": digest(checkpoint.weights),
        "numbers": hashlib.sha256(text.encode()).hexdigest(),
    }
    near = {"norm": wire.l2_norm(weights), "loss": checkpoint.history[-1].evaluation.loss}
    return hashes, near


def private_round(folder: Path) -> tuple[dict[str, str], dict[str, float]]:
    """One private round with generators of known seed."""
    plan = small_plan(privacy=Privacy(noise_multiplier=1.0, delta=1e-3, steps=5))
    cohort = Cohort.open(make_cohort(folder / "cohort", 40, 3, plan))
    train = cohort.split(plan.split)["train"]
    model = build_model(plan)
    cost = RoundCost.of(plan, cohort.count_patients(train))
    train_private_round(model, cohort, train, plan, cost, 1, device=torch.device("cpu"))
    weights = wire.get_weights(model)
    return {"plan": plan.sha256, "weights": digest(weights)}, {"norm": wire.l2_norm(weights)}


class Quiet:
    """Watches nothing."""

    def __getattr__(self, name):
        return lambda *args: None


@pytest.fixture
def one_thread(monkeypatch):
    """Sums split over threads differ in the last bit."""
    threads = torch.get_num_threads()
    yield torch.set_num_threads(1)
    torch.set_num_threads(threads)


@pytest.mark.parametrize("make", [small_run, private_round])
def test_numbers_are_the_recorded_ones(make, tmp_path, monkeypatch, one_thread):
    monkeypatch.setattr(secrets, "randbits", lambda bits: 12345)
    monkeypatch.setattr("simulation.scenario.n_cores", lambda: 1)
    hashes, near = make(tmp_path)
    recorded = json.loads(RECORDED.read_text()) if RECORDED.exists() else {}
    if os.environ.get("PNEUMOFED_RECORD"):
        entry = recorded.setdefault(make.__name__, {"machines": {}})
        entry["near"] = near
        entry["machines"][machine()] = hashes
        RECORDED.write_text(json.dumps(recorded, indent=2, sort_keys=True) + "\n")
        return
    entry = recorded[make.__name__]
    known = entry["machines"].get(machine())
    if (
        known is not None
    ):  # of another machine what changed on purpose is taken out, until it is recorded there
        assert known.items() <= hashes.items()
    plans = {record["plan"] for record in entry["machines"].values()}
    assert plans == {hashes["plan"]}
    assert near == pytest.approx(entry["near"], rel=1e-3)
