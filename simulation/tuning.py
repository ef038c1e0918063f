"""A small federated search over a plan's values: successive halving, judged on validation patients alone.

Jamieson and Talwalkar, 2016, "Non-stochastic Best Arm Identification and Hyperparameter Optimization": many
candidates get few rounds, the better half (or third) gets more, and so on. A candidate's score is the AUROC
that the server pools from the sites' validation patients, of the weights that its run would hand over (the
last round's, or the chosen one's); test patients are never looked at.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, model_validator

from common.arms import FEDERATED
from common.config import Settings
from common.errors import ConfigError, RunError
from common.files import without_nan, write_atomically
from common.seeds import numpy_generator
from server.observer import Observer
from simulation import runs
from simulation.scenario import Scenario, scenario_with
from simulation.simulate import prepare, run_arm
from simulation.study import Values, related

_OTHERS = "candidates are compared on the same patients"
_SEARCH = "the search sets it itself"
FIXED = {
    "rounds": _SEARCH, "simulation": _SEARCH, "seed": _OTHERS, "data": _OTHERS, "split": _OTHERS,
    "findings": _OTHERS, "min_patients": _OTHERS, "input.min_frames": _OTHERS, "input.modality": _OTHERS,
    "input.label": _OTHERS,
    "evaluation": "it is what candidates are compared by", "name": "it changes nothing",
}  # fmt: skip
"""Key of the plan -> why it is not searched."""


class Range(Settings):
    """Values of one key: a list to choose from, or an interval to draw from on a log scale."""

    among: tuple[Any, ...] | None = Field(default=None, strict=False)
    log: tuple[float, float] | None = Field(default=None, strict=False)

    @model_validator(mode="after")
    def _one(self) -> "Range":
        if (self.among is None) == (self.log is None):
            raise ValueError("expected either among: [values] or log: [low, high]")
        if self.log is not None and not 0 < self.log[0] < self.log[1]:
            raise ValueError(f"log: found {list(self.log)}, expected 0 < low < high")
        if self.among is not None:
            try:
                plain = bool(self.among) and bool(json.dumps(self.among, allow_nan=False))
            except (TypeError, ValueError):
                plain = False
            if not plain:
                raise ValueError("among: expected one value at least, each as a plan has it")
        return self

    def draw(self, rng: np.random.Generator) -> Any:
        if self.among is not None:
            return self.among[int(rng.integers(len(self.among)))]
        assert self.log is not None
        return float(f"{math.exp(rng.uniform(math.log(self.log[0]), math.log(self.log[1]))):.3g}")


class Search(Settings):
    """What is searched, and how long."""

    scenario: Values
    space: dict[str, Range] = Field(min_length=1, description="key of the plan: its values")
    candidates: int = Field(default=9, ge=2, le=1000)
    rounds: int = Field(
        default=2, ge=1, description="of every candidate at first; those that go on get `keep` times as many"
    )
    keep: int = Field(default=3, ge=2, le=10, description="one in so many goes on")
    seed: int = 0

    @model_validator(mode="after")
    def _compared(self) -> "Search":
        for key in self.space:
            for fixed in FIXED:
                if related(key, fixed):
                    raise ValueError(
                        f"space: {key}: is no value to search: {FIXED[fixed]}; leave it out of space"
                    )
        return self


@dataclass(frozen=True)
class Candidate:
    """One draw from the space."""

    number: int
    values: Values


def draw_candidates(search: Search) -> list[Candidate]:
    """The candidates, by the search's seed alone; each has other values than those before it, where the space
    allows."""
    rng = numpy_generator(search.seed, "search")
    seen: dict[str, Values] = {}
    for _ in range(100 * search.candidates):
        values = {key: around.draw(rng) for key, around in search.space.items()}
        seen.setdefault(json.dumps(values, sort_keys=True), values)
        if len(seen) == search.candidates:
            break
    return [Candidate(number, values) for number, values in enumerate(seen.values(), start=1)]


def tune(search: Search, out: Path, observe: Callable[[str], Callable[[str], Observer]]) -> dict[str, Any]:
    """Run the search; resumable. Writes search.json into `out` after every rung.

    Raises:
        ConfigError: a candidate is not a valid plan (all are checked before the first trains), or scores
        cannot be compared.
        RunError: no candidate has a score.
    """
    left, rounds, rungs = draw_candidates(search), search.rounds, []
    for candidate in left:
        scenario = _scenario(search, candidate, rounds)
        if scenario.split.validation == 0.0 or scenario.privacy is not None or scenario.evaluation.every == 0:
            raise ConfigError(
                "tune: candidates are compared by validation scores; the plan has none (split, privacy, "
                "evaluation)"
            )
    while True:
        scores = {}
        for c in left:
            folder = out / f"rounds-{rounds}" / f"candidate-{c.number}"
            watch = observe(f"candidate {c.number}, {rounds} rounds")
            scores[c.number] = _score(_scenario(search, c, rounds), folder, out / "data", watch)
        if all(score == -math.inf for score in scores.values()):
            raise RunError(
                f"{out}: no candidate has an AUROC after {rounds} rounds: are there validation patients of "
                "both classes?"
            )
        left = sorted(left, key=lambda c: (-scores[c.number], c.number))
        rungs.append(
            {
                "rounds": rounds,
                "ranking": [{"candidate": c.number, "score": scores[c.number], **c.values} for c in left],
            }
        )
        outcome: dict[str, Any] = without_nan(
            {"rungs": rungs, "best": left[0].values, "score": scores[left[0].number]}
        )
        write_atomically(out / "search.json", (json.dumps(outcome, indent=2) + "\n").encode())
        if len(left) == 1:
            return outcome
        left, rounds = left[: max(1, len(left) // search.keep)], rounds * search.keep


def _scenario(search: Search, candidate: Candidate, rounds: int) -> Scenario:
    values = ", ".join(f"{k}={v}" for k, v in candidate.values.items())
    changes = {**candidate.values, "rounds": rounds, "simulation.arms": []}
    return scenario_with(search.scenario, changes, f"candidate {candidate.number} ({values})")


def _score(scenario: Scenario, folder: Path, data: Path, observe: Callable[[str], Observer]) -> float:
    """The pooled validation AUROC of the weights that the run would hand over; minus infinity where it is
    undefined."""
    with runs.held(folder):
        runs.start_or_resume(folder, scenario)
        sites = prepare(scenario, folder, data / runs.data_id(scenario))
        trained = run_arm(scenario, FEDERATED, sites, folder, observe(FEDERATED))
    evaluation = trained.chosen(scenario.plan).evaluation
    return evaluation.auroc if evaluation and math.isfinite(evaluation.auroc) else -math.inf
