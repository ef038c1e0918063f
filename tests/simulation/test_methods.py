"""Methods that keep something at the sites, as whole runs: over restarts, on other engines, and judged as a
site would use them."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from flwr.clientapp import ClientApp
from safetensors.numpy import load_file, save_file

from client.app import app
from client.site_config import SiteConfig
from common import wire
from common.arms import FEDERATED
from common.models import build_model
from common.models.personal import personal_names
from common.plan import Federation
from common.results.form import to_text
from common.results.run import Timing
from server.checkpoint import load_checkpoint
from server.observer import Silent
from simulation import runs
from simulation.scenario import Machine, PhantomData
from tests.helpers.plans import small_plan
from tests.helpers.simulated import run, scenario_of


class Breaking(Silent):
    """Ends the run by force after so many rounds, as a crash does: between the checkpoint and the next
    round."""

    def __init__(self, after):
        self.after = after

    def finished_round(self, report):
        if report.round == self.after:
            raise KeyboardInterrupt


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SCAFFOLD", "FedBN", "FedPer", "Ditto"])
def test_a_run_that_was_cut_off_ends_with_the_same_weights_everywhere(tmp_path, name):
    scenario = scenario_of(name)
    whole = run(scenario, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(scenario, tmp_path / "cut", Breaking(after=2))
    resumed = run(scenario, tmp_path / "cut")
    files = sorted(p.relative_to(tmp_path / "whole") for p in (tmp_path / "whole").rglob("*.safetensors"))
    assert len([f for f in files if "memory-" in str(f)]) == 4  # two sites, two rounds each
    for file in files:
        one, other = (load_file(tmp_path / run_ / file) for run_ in ("whole", "cut"))
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[k], other[k]) for k in one), file
    one, other = (to_text(replace(result, timing=Timing())) for result in (whole, resumed))
    assert one == other
    assert not any(k.startswith(wire.CONTROL) for k in load_file(tmp_path / "whole" / "model.safetensors"))


def losing(rounds):
    """The sites; what hospital-b answers in some rounds is lost on its way."""
    lossy = ClientApp()
    lossy.query()(app)
    lossy.evaluate()(app)

    @lossy.train()
    def train(message, context):
        answer, site = app(message, context), SiteConfig.from_node(context.node_config).site
        if site == "hospital-b" and wire.get_round(message.content) in rounds:
            raise RuntimeError("lost")
        return answer

    return lossy


@pytest.mark.slow
@pytest.mark.parametrize("lost", [(), (1,), (2,), (1, 2)])
def test_scaffold_s_control_stays_the_mean_of_the_sites_own(tmp_path, monkeypatch, lost):
    """Also where updates got lost: what a site kept of them is no control variate that the server knows."""
    monkeypatch.setattr("simulation.simulate.client_app", losing(lost))
    data = PhantomData(sites=2, patients=24)
    scenario = scenario_of("SCAFFOLD", data=data, federation=Federation(quorum=0.5))
    run(scenario, tmp_path / "run")
    checkpoint = load_checkpoint(tmp_path / "run/arms/federated", scenario.plan.sha256)
    sizes = {site: numbers["num-examples"] for site, numbers in checkpoint.history[-1].sites.items()}
    own = {
        site: load_file(tmp_path / f"run/arms/federated/memory-{site}/simulation/round-000003.safetensors")
        for site in sizes
    }
    for name, control in wire.control_part(checkpoint.weights).items():
        mean = sum(n * own[site][name].astype(np.float64) for site, n in sizes.items()) / sum(sizes.values())
        np.testing.assert_allclose(control, mean, rtol=1e-3, atol=1e-5)
        assert control.any()


@pytest.mark.slow
def test_personal_weights_decide_how_a_hospital_is_judged(tmp_path):
    scenario = scenario_of("FedPer")
    whole = run(scenario, tmp_path / "run")
    for folder in (tmp_path / "run/arms/federated").glob("memory-hospital-a"):
        for file in folder.rglob("round-000003.safetensors"):
            tensors = load_file(file)

            # The last layer turned round: what was called positive is called negative.
            save_file({n: -t if n.startswith("head.3") else t for n, t in tensors.items()}, file)
    (tmp_path / "run" / runs.RESULT).unlink()
    turned = run(scenario, tmp_path / "run")
    a, b = (turned.sites[s].federated.auroc for s in ("hospital-a", "hospital-b"))
    assert a == pytest.approx(1 - whole.sites["hospital-a"].federated.auroc)
    assert b == pytest.approx(whole.sites["hospital-b"].federated.auroc, nan_ok=True)


@pytest.mark.slow
def test_what_is_personal_never_reaches_the_server(tmp_path):
    scenario = scenario_of("FedBN")
    run(scenario, tmp_path / "run")
    model = build_model(scenario.plan)
    final = load_checkpoint(tmp_path / "run/arms" / FEDERATED, scenario.plan.sha256).weights
    start = wire.get_weights(model)
    own = personal_names(scenario.plan, model)
    assert all(np.array_equal(final[n], start[n]) for n in own)
    assert all(not np.array_equal(final[n], start[n]) for n in final.keys() - own)


@pytest.mark.slow
def test_who_counts_does_not_hang_on_how_fast_this_machine_is(tmp_path):
    """The deadline ran over all sites one after another."""
    scenario = scenario_of("FedAvg", rounds=1, federation=Federation(quorum=0.3, deadline_s=1e-6))
    result = run(scenario, tmp_path / "run")
    history = load_checkpoint(tmp_path / "run/arms" / FEDERATED, scenario.plan.sha256).history
    assert (history[0].failed, sorted(history[0].sites)) == ({}, sorted(result.sites))


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("FedAvg", {"codec": {"name": "int4"}}),
        pytest.param("FedAvg", {"aggregation": {"secure": True, "threshold": 2}}, marks=pytest.mark.slow),
        pytest.param("FedAvg", {"privacy": {"epsilon": 8.0, "delta": 1e-3}}, marks=pytest.mark.slow),
        pytest.param("SCAFFOLD", {}, marks=pytest.mark.slow),
        pytest.param("FedPer", {}, marks=pytest.mark.slow),
        pytest.param("Ditto", {}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_adapters_train_and_what_they_stand_beside_stays_whatever_the_plan(tmp_path, name, changes):
    start = {k: v.numpy() for k, v in build_model(scenario_of("FedAvg", seed=11)).state_dict().items()}
    save_file(start, file := tmp_path / "start.safetensors")
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    scenario = scenario_of(
        name, rounds=2, model={**small_plan().model.model_dump(), "pretrained": sha256, "adapters": 2},
        simulation=Machine(threads=1, arms=(), pretrained=str(file)), **changes,
    )  # fmt: skip
    run(scenario, tmp_path / "run")
    after = load_file(tmp_path / "run" / "model.safetensors")
    stays = {k for k in start if k.startswith("encoder.features.")}
    assert all(np.array_equal(after[k], start[k]) for k in stays)
    added = after.keys() - start.keys()
    assert len(added) == 6
    assert all(after[k].any() for k in added)
    moves = {k for k in start.keys() - stays if not np.array_equal(after[k], start[k])}
    expected = start.keys() - stays
    assert moves == ({k for k in expected if not k.startswith("head.")} if name == "FedPer" else expected)
