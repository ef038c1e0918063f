"""Federated, each hospital alone, and centralised: the same program, splits and budget, side by side."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Context, RecordDict
from flwr.common.constant import SUPERLINK_NODE_ID
from safetensors.numpy import save

from client.app import app as client_app
from client.compute.device import set_up_process
from client.prediction.parts import content_sha256
from client.site_config import NodeConfig, SiteConfig
from common import wire
from common.arms import CENTRALISED, FEDERATED, local_arm
from common.boards import open_boards
from common.errors import ConfigError
from common.files import write_atomically
from common.plan import Plan, canonical_json, require_current
from common.results.rounds import History
from common.results.run import RunResult, Timing, write_result
from common.selection import goes_on, verdicts_of
from server.app import build_app
from server.checkpoint import Checkpoint, load_checkpoint
from server.curves import Recorded
from server.live import Live
from server.observer import Observer
from server.roster import Deployment
from server.strategies import require_enough_sites
from simulation import runs
from simulation.arms import arm_plan, ledger_of, memory_folder
from simulation.assess import assess
from simulation.grid import PoolGrid, SequentialGrid, SimulationGrid
from simulation.hostile import app as hostile_app
from simulation.identities import introduce
from simulation.scenario import Scenario
from simulation.sites import COHORTS, SiteData, prepare_sites

SIMULATED = Deployment(everybody=True, timed=False)


def simulate(
    scenario: Scenario,
    out: Path,
    observe: Callable[[str], Observer],
    sites: list[SiteData] | None = None,
) -> RunResult:
    """Run every arm that is not finished yet, judge the models and write the report. `out` must be held
    (`runs.held`).

    Args:
        observe: arm's name -> who watches its rounds.
        sites: the hospitals, prepared for this run; by default they are now, with data of the run's own.

    Returns:
        What metrics.json holds.
    """
    started = time.perf_counter()
    sites = prepare(scenario, out, out) if sites is None else sites
    prepared = time.perf_counter()
    arms = {FEDERATED: sites}
    if "local_only" in scenario.simulation.arms and len(sites) > 1:
        arms |= {local_arm(site.name): [site] for site in sites}
    if CENTRALISED in scenario.simulation.arms:
        arms[CENTRALISED] = [SiteData.pooled(sites)]
    results: dict[str, Checkpoint] = {}
    for arm, members in arms.items():
        earlier = {name: checkpoint.history for name, checkpoint in results.items()}
        results[arm] = run_arm(scenario, arm, members, out, observe(arm), earlier)
    trained = time.perf_counter()
    result = assess(scenario, sites, results, out)
    # Of a resumed run some rounds were trained by a process before this one.
    rounds_s = max(trained - prepared, sum(r.seconds for c in results.values() for r in c.history))
    timing = Timing(
        prepare_s=prepared - started,
        train_s=sum(_training_seconds(checkpoint) for checkpoint in results.values()),
        rounds_s=rounds_s,
        total_s=prepared - started + rounds_s + time.perf_counter() - trained,
    )
    result = replace(result, timing=timing)
    write_outputs(out, scenario.plan, result, results)
    return result


def prepare(scenario: Scenario, out: Path, data: Path) -> list[SiteData]:
    """This process and the hospitals, before a run in `out` trains; their data lie in `data`.

    Raises:
        ConfigError: the strategy needs more hospitals, one that is to be hostile is not there, or the plan's
        rule is gone (`require_current`).
        DataError: labels, classes or numbers of patients do not allow a federation.
        RunError: the run was begun with other data.
    """
    require_current(scenario)
    logging.getLogger("flwr").setLevel(logging.WARNING)
    set_up_process(scenario.simulation.n_threads)
    sites = prepare_sites(scenario, data)
    require_enough_sites(scenario.plan, len(sites))
    if unknown := sorted(scenario.simulation.hostile.keys() - {site.name for site in sites}):
        raise ConfigError(
            f"simulation.hostile: {unknown[0]}: no such site; sites are "
            f"{', '.join(site.name for site in sites)}"
        )
    fingerprints = {site.name: site.open().fingerprint for site in sites}
    path = getattr(scenario.data, "path", "")
    tables = content_sha256(Path(path).expanduser()) if path else ""
    runs.require_same_data(out, runs.TrainedOn(data / COHORTS, fingerprints, path, tables))
    return sites


def run_arm(
    scenario: Scenario, arm: str, sites: list[SiteData], out: Path, observer: Observer,
    earlier: Mapping[str, History] | None = None,
) -> Checkpoint:  # fmt: skip
    """One federation through Flower's ServerApp and ClientApp; alone and centralised are federations of one.
    `earlier` are the arms that stand before it in history.csv."""
    folder = out / "arms" / arm
    folder.mkdir(parents=True, exist_ok=True)
    plan, file = arm_plan(scenario.plan, arm, out)
    done = load_checkpoint(folder, plan.sha256)
    history = done.history if done else ()
    if done is None or goes_on(plan, verdicts_of(history), done.round):
        facts = {"name": plan.name, "plan_sha256": plan.sha256}
        with open_boards(scenario.simulation.curves, out / "curves", arm, facts, len(history)) as boards:
            recorded = Recorded(Live(observer, boards), out, arm, earlier or {}, history)
            _train(scenario, node_configs(scenario, sites, out, arm), recorded, {"plan": file, "out": folder})
        done = load_checkpoint(folder, plan.sha256)
    assert done is not None
    return done


def _train(scenario: Scenario, nodes: list[NodeConfig], observer: Observer, files: dict[str, Path]) -> None:
    """The rounds that are left, by the scenario's engine."""
    config: dict[str, Any] = {name: str(path) for name, path in files.items()}
    if scenario.simulation.pretrained is not None:
        config["pretrained"] = scenario.simulation.pretrained
    context = Context(
        run_id=1, node_id=SUPERLINK_NODE_ID, node_config={}, state=RecordDict(), run_config=config
    )
    with _grid(scenario, nodes) as grid:
        build_app(observer, SIMULATED)(grid, context)


@contextmanager
def _grid(scenario: Scenario, nodes: list[NodeConfig]) -> Iterator[SimulationGrid]:
    machine = scenario.simulation
    grid: SimulationGrid
    name = "simulation.hostile:app" if machine.hostile else "client.app:app"
    if machine.engine == "ray":
        from simulation.ray_grid import RayGrid  # needs the ray extra

        grid = RayGrid(name, nodes, machine)
    elif machine.engine == "pool" and len(nodes) > 1:
        grid = PoolGrid(name, nodes, machine.n_workers, machine.n_threads)
    else:
        grid = SequentialGrid(hostile_app if machine.hostile else client_app, nodes)
    try:
        yield grid
    finally:
        grid.close()


def node_configs(scenario: Scenario, sites: list[SiteData], out: Path, arm: str) -> list[NodeConfig]:
    """Each site's configuration. Each arm has ledgers of its own: only one would be real.

    A hostile site is so in the federated arm alone.
    """
    hostile = scenario.simulation.hostile if arm == FEDERATED else {}
    plan, file = arm_plan(scenario.plan, arm, out)
    known = introduce(out / "identities", [s.name for s in sites]) if plan.aggregation.secure else {}
    return [
        SiteConfig(
            site=site.name,
            cohorts=site.folders,
            plan=file,
            device=scenario.simulation.device_of(node),
            ledger=ledger_of(out, arm, site.name),
            memory=memory_folder(out, arm, site.name),
            pretrained=Path(given) if (given := scenario.simulation.pretrained) else None,
            identity=known[site.name].key if known else None,
            peers=known[site.name].peers if known else None,
            hostile=hostile.get(site.name),
        ).to_node()
        for node, site in enumerate(sites, start=1)
    ]


def _training_seconds(checkpoint: Checkpoint) -> float:
    seconds = [site[wire.SECONDS] for report in checkpoint.history for site in report.sites.values()]
    return float(np.nansum(seconds))  # a private site does not tell


def write_outputs(out: Path, plan: Plan, result: RunResult, results: dict[str, Checkpoint]) -> None:
    """model.safetensors, report.html, and last metrics.json: its presence says that the run is finished."""
    from common.report.page import (
        render_report,
    )  # matplotlib takes a second to import: not before the first round

    federated = results[FEDERATED].chosen(plan)
    # One entry: safetensors writes several in a random order, and equal runs should give equal files.
    metadata = {
        "pneumofed": canonical_json(
            {"plan": plan.model_dump(mode="json"), "plan_sha256": plan.sha256, "rounds": federated.round}
        )
    }
    write_atomically(out / "model.safetensors", save(wire.model_part(federated.weights), metadata=metadata))
    histories = {arm: checkpoint.history for arm, checkpoint in results.items()}
    write_atomically(out / "report.html", render_report(plan, result, histories).encode())
    write_result(out, result)
