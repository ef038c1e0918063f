"""Federated, each hospital alone, and centralised: the same program, splits and budget, side by side."""

import csv
import io
import json
import logging
import math
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Context, RecordDict
from flwr.common.constant import SUPERLINK_NODE_ID
from safetensors.numpy import save

from client.app import app as client_app
from client.imaging.cohort import Cohort
from client.training.device import choose_device, describe, set_up_process
from client.training.evaluate import predict
from client.worker import NodeConfig
from common import metrics, wire
from common.files import without_nan, write_atomically
from common.models import build_model
from common.plan import Plan, canonical_json
from server.app import build_app
from server.checkpoint import Checkpoint, load_checkpoint
from server.rounds import Observer
from simulation import runs
from simulation.grid import PoolGrid, SequentialGrid, SimulationGrid
from simulation.scenario import Scenario
from simulation.scores import Predictions, calibration, confusion, gain, judge
from simulation.sites import SiteData, prepare_sites

FEDERATED, CENTRALISED = "federated", "centralised"


def simulate(scenario: Scenario, out: Path, observe: Callable[[str], Observer]) -> dict[str, Any]:
    """Run every arm that is not finished yet, judge the models and write the report. `out` must be held (`runs.held`).

    Args:
        observe: arm's name -> who watches its rounds.

    Returns:
        What metrics.json holds.
    """
    started = time.perf_counter()
    logging.getLogger("flwr").setLevel(logging.WARNING)
    set_up_process(scenario.simulation.n_threads)
    sites = prepare_sites(scenario, out)
    prepared = time.perf_counter()
    arms = {FEDERATED: sites}
    if "local_only" in scenario.simulation.arms and len(sites) > 1:
        arms |= {local_arm(site.name): [site] for site in sites}
    if CENTRALISED in scenario.simulation.arms:
        arms[CENTRALISED] = [SiteData.pooled(sites)]
    results = {arm: run_arm(scenario, arm, members, out, observe(arm)) for arm, members in arms.items()}
    trained = time.perf_counter()
    result = assess(scenario, sites, results)
    result["timing"] = {
        "prepare_s": prepared - started,
        "train_s": sum(_training_seconds(checkpoint) for checkpoint in results.values()),
        "rounds_s": trained - prepared,
        "total_s": time.perf_counter() - started,
    }
    write_outputs(out, scenario.plan, result, results)
    return result


def local_arm(site: str) -> str:
    """The arm in which one hospital trains alone."""
    return f"local-{site}"


def run_arm(scenario: Scenario, arm: str, sites: list[SiteData], out: Path, observer: Observer) -> Checkpoint:
    """One federation through Flower's ServerApp and ClientApp; alone and centralised are federations of one."""
    folder = out / "arms" / arm
    folder.mkdir(parents=True, exist_ok=True)
    done = load_checkpoint(folder, scenario.plan.sha256)
    if done is None or done.round < scenario.rounds:
        config: dict[str, Any] = {"plan": str(out / "plan.yaml"), "out": str(folder)}
        context = Context(run_id=1, node_id=SUPERLINK_NODE_ID, node_config={}, state=RecordDict(), run_config=config)
        if scenario.simulation.engine == "ray":
            from simulation.ray_engine import run_on_ray  # needs the ray extra

            run_on_ray(build_app(observer), context, node_configs(scenario, sites, out, arm), scenario.simulation)
        else:
            with _grid(scenario, sites, out, arm) as grid:
                build_app(observer)(grid, context)
        done = load_checkpoint(folder, scenario.plan.sha256)
    assert done is not None
    return done


@contextmanager
def _grid(scenario: Scenario, sites: list[SiteData], out: Path, arm: str) -> Iterator[SimulationGrid]:
    engine, nodes = scenario.simulation, node_configs(scenario, sites, out, arm)
    grid: SimulationGrid
    if engine.engine == "pool" and len(sites) > 1:
        grid = PoolGrid("client.app:app", nodes, engine.n_workers, engine.n_threads)
    else:
        grid = SequentialGrid(client_app, nodes)
    try:
        yield grid
    finally:
        grid.close()


def node_configs(scenario: Scenario, sites: list[SiteData], out: Path, arm: str) -> list[NodeConfig]:
    """Each site's node configuration, as client/app.py reads it. Each arm has ledgers of its own: only one would be real."""
    plan, device_of = str(out.resolve() / "plan.yaml"), scenario.simulation.device_of
    return [
        {
            "site": site.name,
            "cohorts": site.paths,
            "plan": plan,
            "device": device_of(node),
            "ledger": str((out / "arms" / arm / f"ledger-{site.name}.sqlite").resolve()),
        }
        for node, site in enumerate(sites, start=1)
    ]


def _training_seconds(checkpoint: Checkpoint) -> float:
    seconds = [site[wire.SECONDS] for report in checkpoint.history for site in report["sites"].values()]
    return float(np.nansum(seconds))  # a private site does not tell


class _Judge:
    """Predictions of any arm's model on any hospitals' patients of a split."""

    def __init__(self, scenario: Scenario) -> None:
        self.plan, self.device = scenario.plan, choose_device(scenario.simulation.device)
        self.model = build_model(self.plan).to(self.device)

    def predict(self, checkpoint: Checkpoint, cohort: Cohort, split: str) -> Predictions:
        indices = cohort.split(self.plan.split)[split]
        wire.set_weights(self.model, checkpoint.weights)
        probabilities = predict(self.model, cohort, indices, self.device)
        return Predictions(probabilities, cohort.labels[indices], cohort.patients[indices])


def assess(scenario: Scenario, sites: list[SiteData], results: dict[str, Checkpoint]) -> dict[str, Any]:
    """All models on the test patients. The threshold is chosen on validation patients, by the federated model."""
    plan, judge_, pooled = scenario.plan, _Judge(scenario), SiteData.pooled(sites).open()
    federated = results[FEDERATED]
    validation = judge_.predict(federated, pooled, "validation")
    known = ~np.isnan(validation.labels[:, 0])
    threshold = metrics.youden_threshold(validation.probabilities[known, 0], validation.labels[known, 0])
    test = judge_.predict(federated, pooled, "test")
    by_site = {site.name: _assess_site(plan, judge_, site, results, threshold) for site in sites}
    verdict: dict[str, Any] = {FEDERATED: judge(test, plan, threshold)}
    verdict[FEDERATED]["mean"] = {"auroc": _mean_auroc(by_site, FEDERATED)}
    if any(local_arm(site.name) in results for site in sites):
        verdict["local_only"] = {"mean": {"auroc": _mean_auroc(by_site, "local_only")}}
    if CENTRALISED in results:
        verdict[CENTRALISED] = judge(judge_.predict(results[CENTRALISED], pooled, "test"), plan, threshold)
    history = federated.history
    return {
        "name": plan.name,
        "seed": plan.seed,
        "rounds": plan.rounds,
        "plan_sha256": plan.sha256,
        "findings": list(plan.findings),
        "test": verdict,
        "confusion": confusion(test, threshold),
        "calibration": calibration(test),
        "sites": by_site,
        "bytes": {"up": sum(r["bytes_up"] for r in history), "down": sum(r["bytes_down"] for r in history)},
        "skipped_files": pooled.tally.skipped_files,
        "skipped": pooled.tally.left_out(),
        "device": describe(judge_.device),
        "engine": scenario.simulation.engine,
        "data": scenario.data.model_dump(mode="json"),
        "versions": versions(),
    }


def _assess_site(plan: Plan, judge_: _Judge, site: SiteData, results: dict[str, Checkpoint], threshold: float) -> dict[str, Any]:
    cohort = site.open()
    split = cohort.split(plan.split)
    federated = judge_.predict(results[FEDERATED], cohort, "test")
    about: dict[str, Any] = {
        "n_patients": len(set(cohort.patients)),
        "n_sequences": len(cohort),
        "n_frames": int(cohort.lengths.sum()),
        "frames": {"min": int(cohort.lengths.min()), "median": float(np.median(cohort.lengths)), "max": int(cohort.lengths.max())},
        "split": {part: cohort.count_patients(indices) for part, indices in split.items()},
        "prevalence": {f: float(np.nanmean(cohort.labels[:, k])) for k, f in enumerate(plan.findings)},
        "scanners": sorted(set(cohort.scanners)),
        "skipped": cohort.tally.left_out(),
        FEDERATED: judge(federated, plan, threshold),
    }
    if local_arm(site.name) in results:
        local = judge_.predict(results[local_arm(site.name)], cohort, "test")
        about["local_only"] = judge(local, plan, threshold)
        about["gain"] = gain(federated, local, plan)
    return about


def _mean_auroc(by_site: dict[str, Any], arm: str) -> float:
    """Mean over the hospitals in which it is defined (both classes among the test patients)."""
    values = [site[arm]["auroc"] for site in by_site.values() if arm in site and math.isfinite(site[arm]["auroc"])]
    return float(np.mean(values)) if values else float("nan")


def versions() -> dict[str, str]:
    """What the numbers were made with."""
    names = ("pneumofed", "flwr", "torch", "opacus", "pydicom", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def write_outputs(out: Path, plan: Plan, result: dict[str, Any], results: dict[str, Checkpoint]) -> None:
    """history.csv, model.safetensors, report.html, and last metrics.json: its presence says that the run is finished."""
    from server.report import render_report  # matplotlib takes a second to import: not before the first round

    federated = results[FEDERATED]
    # One entry: safetensors writes several in a random order, and equal runs should give equal files.
    about = {
        "pneumofed": canonical_json({"plan": plan.model_dump(mode="json"), "plan_sha256": plan.sha256, "rounds": federated.round})
    }
    write_atomically(out / "model.safetensors", save(federated.weights, metadata=about))
    histories = {arm: checkpoint.history for arm, checkpoint in results.items()}
    write_atomically(out / "history.csv", history_csv(histories).encode())
    write_atomically(out / "report.html", render_report(plan, without_nan(result), without_nan(histories)).encode())
    text = json.dumps(without_nan(result), indent=2, allow_nan=False) + "\n"
    write_atomically(out / runs.RESULT, text.encode())


def history_csv(histories: dict[str, list[dict[str, Any]]]) -> str:
    """One row a round and site: training and validation numbers."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(
        ["arm", "round", "site", "n_train", "train_loss", "update_norm", "train_s", "validation_loss", "validation_auroc"]
    )
    for arm, history in histories.items():
        for report in history:
            evaluated = (report["evaluation"] or {"sites": {}})["sites"]
            for site, trained in sorted(report["sites"].items()):
                seen = evaluated.get(site, {})
                rows.writerow([
                    arm, report["round"], site, int(trained[wire.N_EXAMPLES]), trained[wire.LOSS], trained["update_norm"],
                    trained[wire.SECONDS], seen.get(wire.LOSS, ""), seen.get(wire.AUROC, ""),
                ])  # fmt: skip
    return text.getvalue()
