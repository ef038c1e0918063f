"""A run's folder: who may use it, what it was started with, and whether it is finished."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from common import files
from common.config import dump_yaml, load_yaml
from common.errors import RunError
from common.files import listed, write_atomically
from common.plan import canonical_json
from common.results.run import FILE as RESULT
from common.results.run import RunResult, read_result
from simulation.scenario import Scenario

SCENARIO, DATA = "scenario.yaml", "data.json"


@dataclass(frozen=True)
class TrainedOn:
    """data.json: the hospitals' data that a run was begun with."""

    cohorts: Path
    """The folder with a cohort for each hospital: the run's own, or one that runs of a study share."""
    fingerprints: Mapping[str, str]
    """Hospital -> SHA-256 of all that training sees."""
    path: str = ""
    """Of the data, as the plan names it; "" of a phantom."""
    tables: str = ""
    """SHA-256 of the tables there (client/prediction/parts.py), which no seed changes."""


def latest_unfinished(parent: Path) -> Path:
    """The run in `parent` that was touched last and is not finished. Raises RunError if there is none."""
    runs = [p for p in listed(parent) if (p / SCENARIO).is_file() and not is_finished(p)]
    if not runs:
        raise RunError(f"{parent}: found no unfinished run to resume; give its folder by --out")
    return max(runs, key=lambda p: (p / SCENARIO).stat().st_mtime)


@contextmanager
def held(out: Path) -> Iterator[None]:
    """Make the run's folder and hold it for this process alone. Raises RunError if another process does, if
    it cannot be made, or holds something that is no run."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise RunError(f"{out}: cannot be used as the run's folder: {e.strerror}") from None
    _require_nothing_else(out)
    with files.held(out / ".lock", f"{out}: in use by another run; wait for it or choose another --out"):
        yield


def _require_nothing_else(out: Path) -> None:
    if not (out / SCENARIO).exists() and any(p.name != ".lock" for p in out.iterdir()):
        raise RunError(f"{out}: is not empty and holds no run; choose another --out")


def start(out: Path, scenario: Scenario) -> None:
    """Note down what the run is. One that ended before it trained anything, as for a value or data that were
    refused, is no run: its folder is used again. Raises RunError if the folder already holds one."""
    if (out / SCENARIO).exists() and not is_begun(out):
        _clear(out)
    if (out / SCENARIO).exists():
        state = "a finished run" if is_finished(out) else "an unfinished run"
        raise RunError(
            f"{out}: already holds {state}; add --resume to go on with it, or choose another --out"
        )
    _require_nothing_else(out)
    write_atomically(out / "plan.yaml", dump_yaml(scenario.plan).encode())
    write_atomically(out / SCENARIO, dump_yaml(scenario).encode())


def is_begun(out: Path) -> bool:
    """Whether there is something to go on with."""
    return is_finished(out) or any((out / "arms").glob("*/*.safetensors"))


def _clear(out: Path) -> None:
    """Remove what a start makes before it trains, and nothing else."""
    for folder in ("arms", "cohorts", "dicom"):
        shutil.rmtree(out / folder, ignore_errors=True)
    for file in ("plan.yaml", SCENARIO, DATA):
        (out / file).unlink(missing_ok=True)


def start_or_resume(out: Path, scenario: Scenario) -> None:
    """Note down what the run is, or make sure that it is what was noted down. Raises RunError as `start` and
    `resume`."""
    if (out / SCENARIO).exists():
        resume(out, scenario)
    else:
        start(out, scenario)


def resume(out: Path, given: Scenario | None) -> Scenario:
    """The scenario that the run in `out` was started with.

    Raises:
        RunError: there is no run, or `given` (a plan named together with --resume) is another one.
    """
    if not (out / SCENARIO).is_file():
        raise RunError(f"{out}: holds no run to resume")
    scenario = load_yaml(out / SCENARIO, Scenario)
    if given is not None and canonical_json(given.model_dump(mode="json")) != canonical_json(
        scenario.model_dump(mode="json")
    ):
        raise RunError(
            f"{out}: was started with another plan than the one given; leave the plan out to resume it as it "
            "was"
        )
    return scenario


def require_same_data(out: Path, now: TrainedOn) -> None:
    """Note down what a run is trained on, or make sure that it is what was noted down.

    Raises:
        RunError: some hospital's images or labels are others now: one model would be judged against another
        that learned something else.
    """
    before = trained_on(out) if is_begun(out) else None
    if before is None:
        told = {**vars(now), "cohorts": os.path.relpath(now.cohorts, out)}
        write_atomically(out / DATA, (json.dumps(told, indent=2) + "\n").encode())
        return
    if before.fingerprints != now.fingerprints:
        names = sorted(before.fingerprints.keys() | now.fingerprints.keys())
        changed = [n for n in names if before.fingerprints.get(n) != now.fingerprints.get(n)]
        raise RunError(
            f"{out}: the data of {', '.join(changed[:3])}{' and others' if len(changed) > 3 else ''} are not "
            "those that it was begun with; put them back, or begin anew in another --out"
        )


def trained_on(out: Path) -> TrainedOn | None:
    """What a run was begun with; None of one of an older version. Raises RunError if data.json is damaged."""
    if not (out / DATA).is_file():
        return None
    try:
        told = json.loads((out / DATA).read_text(encoding="utf-8"))
        fingerprints, cohorts = dict(told["fingerprints"]), out / str(told["cohorts"])
        return TrainedOn(cohorts, fingerprints, str(told["path"]), str(told["tables"]))
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise RunError(
            f"{out / DATA}: not readable ({type(e).__name__}); begin anew in another --out"
        ) from None


def data_id(scenario: Scenario) -> str:
    """Names a folder for data that runs can share: the same for the same hospitals, contract, seed and
    minimum."""
    identity = scenario.model_dump(mode="json", include={"data", "input", "findings", "seed", "min_patients"})
    return hashlib.sha256(canonical_json(identity).encode()).hexdigest()[:12]


def is_finished(out: Path) -> bool:
    """Whether the run came to its end: the result is what it writes last."""
    return (out / RESULT).is_file()


def finished_result(out: Path) -> RunResult | None:
    """The result of a finished run, else None. Raises RunError if it is of another version."""
    return read_result(out) if is_finished(out) else None
