"""Studies: one question, several variants of one scenario, several seeds; a table, a figure, and every run
resumable.

A study is a YAML file in configs/studies: a scenario, and for each variant the values that differ. Every
variant trains on the same hospitals, splits and seeds as the others, unless it changes them itself.
"""

import json
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, model_validator

from common.advice import ADOPT, KEEP_LOCAL
from common.arms import CENTRALISED
from common.config import Settings, load_yaml
from common.errors import ConfigError, RunError
from common.files import without_nan, write_atomically
from common.results.run import RunResult
from server.observer import Observer
from simulation import runs
from simulation.scenario import Scenario, scenario_with
from simulation.simulate import prepare, simulate

FOLDER = Path(__file__).resolve().parent.parent / "configs" / "studies"
Values = dict[str, Any]
MEASURES = ("federated", "centralised", "alone")
ARMS_OF = {"centralised": "centralised", "alone": "local_only"}
"""Measure -> the arm that it needs beside the federated one."""


class Study(Settings):
    """One question and how it is answered."""

    question: str
    scenario: Values = Field(description="a scenario as `pneumofed simulate` reads it")
    variants: dict[str, Values] = Field(
        min_length=1, description="variant: the values that differ, by their keys"
    )
    seeds: tuple[int, ...] = Field(default=(1, 2), min_length=1, strict=False)
    full: Values = Field(default_factory=dict, description="with --full: other values for all variants")
    full_seeds: tuple[int, ...] = Field(default=(1, 2, 3, 4, 5), min_length=1, strict=False)
    main: str = Field(
        default="federated", description="the measure that the figure shows: federated, centralised or alone"
    )

    @model_validator(mode="after")
    def _measured(self) -> "Study":
        if self.main not in MEASURES:
            raise ValueError(f"main: found {self.main!r}, expected one of {', '.join(MEASURES)}")
        folders: dict[str, str] = {}
        for variant in self.variants:
            if (other := folders.setdefault(_slug(variant), variant)) != variant:
                raise ValueError(f"variants: {other!r} and {variant!r} would share a folder; rename one")
        return self

    def scenario_of(self, variant: str, seed: int, full: bool, overrides: Values) -> Scenario:
        """The scenario of one run.

        Raises:
            ConfigError: it is not a valid one, or overrides what the variants differ in; names the variant
            and the key.
        """
        for key in overrides:
            if related(key, "seed") or any(related(key, own) for own in self.variants[variant]):
                raise ConfigError(
                    f"--set {key}: the study's runs differ in it (seeds, or variant {variant!r}); leave it "
                    "out, or change the study's file"
                )
        values = {**(self.full if full else {}), **self.variants[variant], **overrides, "seed": seed}
        return scenario_with(self.scenario, values, f"variant {variant!r}")


def related(key: str, other: str) -> bool:
    """Whether two keys of a plan are the same, or one lies in the other."""
    return f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}.")


def load_study(name: str) -> tuple[str, Study]:
    """A study by its name in configs/studies, or by its file; and its name.

    Raises:
        ConfigError: there is none, or it is not a valid one.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if not path.is_file() and path.parent == FOLDER:
        known = ", ".join(sorted(p.stem for p in FOLDER.glob("*.yaml")))
        raise ConfigError(f"{name}: no such study; studies are: {known}; or give a file NAME.yaml")
    return path.stem, load_yaml(path, Study)


def run_study(
    name: str,
    study: Study,
    out: Path,
    full: bool,
    overrides: Values,
    observe: Callable[[str], Callable[[str], Observer]],
) -> dict[str, Any]:
    """Every run that is not finished yet, then table.json, table.md and figure.svg in `out`.

    Args:
        observe: a run's name -> arm -> who watches its rounds.

    Raises:
        ConfigError: a variant is not valid (all are checked before the first trains).
        RunError: a run's folder holds another scenario than the study's, or was trained on other data than
        the others.
    """
    seeds = study.full_seeds if full else study.seeds
    wanted = {
        (v, seed): study.scenario_of(v, seed, full, overrides) for v in study.variants for seed in seeds
    }
    for (variant, _), scenario in wanted.items():
        if (arm := ARMS_OF.get(study.main)) and arm not in scenario.simulation.arms:
            raise ConfigError(
                f"variant {variant!r}: the study's main measure is {study.main}; simulation.arms has no {arm}"
            )
    folders = {(v, seed): out / "runs" / _slug(v) / f"seed-{seed}" for v, seed in wanted}
    results: dict[tuple[str, int], RunResult] = {}
    for (variant, seed), scenario in wanted.items():
        data = out / "data" / runs.data_id(scenario)
        watch = observe(f"{variant}, seed {seed}")
        result_of = _run(scenario, folders[variant, seed], data, watch, folders.values())
        if study.main not in measures(result_of):
            raise ConfigError(f"variant {variant!r}: has no {study.main}: there is one hospital alone")
        results[variant, seed] = result_of
        write_atomically(out / "table.json", _json(summary(name, study, results)))
    table_of_runs = summary(name, study, results)
    write_atomically(out / "table.md", table(table_of_runs).encode())
    write_atomically(out / "figure.svg", _figure(table_of_runs).encode())
    result: dict[str, Any] = without_nan(table_of_runs)
    return result


def _run(
    scenario: Scenario,
    folder: Path,
    data: Path,
    observe: Callable[[str], Observer],
    all_runs: Collection[Path],
) -> RunResult:
    with runs.held(folder):
        runs.start_or_resume(folder, scenario)
        if done := runs.finished_result(folder):
            _require_one_data(all_runs)
            return done
        sites = prepare(scenario, folder, data)
        _require_one_data(all_runs)
        return simulate(scenario, folder, observe, sites)


def _require_one_data(folders: Iterable[Path]) -> None:
    """Of the runs that share hospitals, or the tables that they come from: each was trained on what was there
    at its time."""
    first: dict[object, tuple[Path, object]] = {}
    for folder in folders:
        if told := runs.trained_on(folder):
            same = [(told.cohorts.resolve(), told.fingerprints), (told.path, told.tables)]
            for what, is_now in same:
                other, was = first.setdefault(what, (folder, is_now))
                if was == is_now:
                    continue
                raise RunError(
                    f"{folder}: was trained on other data than {other}, though both name the same; put the "
                    "data back, and remove the folder that was not trained on them"
                )


def _slug(variant: str) -> str:
    return "".join(c if c.isalnum() or c in "-." else "-" for c in variant)


def _json(tree: Any) -> bytes:
    return (json.dumps(without_nan(tree), indent=2) + "\n").encode()


def measures(result: RunResult) -> dict[str, float]:
    """Test AUROC of one run: federated, centralised, the mean of hospitals alone; and the sites that surely
    gain and lose."""
    test = result.test
    values = {"federated": test.federated.auroc, "accuracy": test.federated.accuracy}
    if test.centralised:
        values[CENTRALISED] = test.centralised.auroc
    if test.local_only and test.federated.mean:
        values["alone"] = test.local_only.mean.auroc
        values["federated_there"] = test.federated.mean.auroc
        advice = [site.gain.advice for site in result.sites.values() if site.gain]
        values |= {"gain": float(advice.count(ADOPT)), "lose": float(advice.count(KEEP_LOCAL))}
    values["megabytes"] = (result.bytes.up + result.bytes.down) / 1e6
    values["seconds"] = result.timing.total_s
    return values


def summary(name: str, study: Study, results: dict[tuple[str, int], RunResult]) -> dict[str, Any]:
    """Variant -> each measure's mean over seeds and its values. Seeds are runs, not patients: the spread is
    all that they show."""
    rows: dict[str, Any] = {}
    for variant in study.variants:
        table_of_runs = {seed: measures(result) for (v, seed), result in results.items() if v == variant}
        if table_of_runs:
            names = list(next(iter(table_of_runs.values())))
            rows[variant] = {
                m: {
                    "mean": float(np.mean([f[m] for f in table_of_runs.values()])),
                    "seeds": {str(s): f[m] for s, f in table_of_runs.items()},
                }
                for m in names
            }
    return {"study": name, "question": study.question, "main": study.main, "variants": rows}


def table(table_of_runs: dict[str, Any]) -> str:
    """The means as Markdown, with the smallest and largest seed of the main measure."""
    columns = list(dict.fromkeys(m for row in table_of_runs["variants"].values() for m in row))
    lines = [
        f"# {table_of_runs['study']}: {table_of_runs['question']}",
        "",
        "Test AUROC, means over seeds.",
        "",
    ]
    lines += ["| variant | " + " | ".join(columns) + " | range |", "|---" * (len(columns) + 2) + "|"]
    for variant, row in table_of_runs["variants"].items():
        cells = [_cell(m, row[m]["mean"]) if m in row else "" for m in columns]
        seeds = [v for v in row[table_of_runs["main"]]["seeds"].values() if v == v]
        spread = f"{min(seeds):.3f} – {max(seeds):.3f}" if seeds else ""
        lines.append(f"| {variant} | " + " | ".join(cells) + f" | {spread} |")
    return "\n".join(lines) + "\n"


def _cell(measure: str, value: float) -> str:
    if value != value:
        return "n/a"
    digits = {"megabytes": 1, "seconds": 0, "gain": 1, "lose": 1}.get(measure, 3)
    return f"{value:.{digits}f}"


def _figure(table_of_runs: dict[str, Any]) -> str:
    from common.report import charts  # matplotlib takes a second to import

    rows = [
        (variant, list(_seeds(row, table_of_runs["main"])), row[table_of_runs["main"]]["mean"])
        for variant, row in table_of_runs["variants"].items()
    ]
    return charts.variants(rows, f"test AUROC, {table_of_runs['main']}")


def _seeds(row: dict[str, Any], measure: str) -> Iterator[float]:
    return (v for v in row[measure]["seeds"].values() if v == v)
