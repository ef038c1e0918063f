"""A run's facts in sentences (facts.yaml), each under the name by which the checklists ask for it."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import JsonValue

from common.calibration import calibrate
from common.config import load_yaml, parse_yaml
from common.handover import MODEL, PLAN, sha256_of
from common.plan import Plan
from common.report.template import render_text
from common.results.card import Card
from common.results.run import FILE as RESULT
from common.results.run import RunResult, read_result
from server.card import describe

SENTENCES = Path(__file__).with_name("facts.yaml")


@dataclass(frozen=True)
class Run:
    """What a finished run left."""

    plan: Plan
    card: Card
    result: RunResult | None
    weights: str
    """SHA-256 of the model's file, hex."""


def read_run(folder: Path) -> Run:
    """Of a deployed or a simulated run. Raises RunError if a file is not readable, or of another version."""
    plan = load_yaml(folder / PLAN, Plan)
    result = read_result(folder) if (folder / RESULT).is_file() else None
    weights = sha256_of(folder / MODEL)
    return Run(plan, describe(folder, plan, {MODEL: weights}), result, weights)


def facts_of(run: Run) -> dict[str, str]:
    """Name -> what is known, in a line; empty if it is not."""
    sentences = parse_yaml(SENTENCES.read_text(encoding="utf-8"), str(SENTENCES))
    assert isinstance(sentences, dict)
    cuts = {
        finding: float(calibrate(np.array([threshold]), run.card.temperature)[0])
        for finding, threshold in run.card.chosen_thresholds.items()
        if not math.isnan(threshold)
    }
    data = _in_words(run.result.data) if run.result else ""
    told = {name: render_text(text, **vars(run), data=data, cuts=cuts) for name, text in sentences.items()}
    return {name: re.sub(r"\s+([.;,])", r"\1", " ".join(text.split())) for name, text in told.items()}


def _in_words(values: Mapping[str, JsonValue]) -> str:
    """Settings as a sentence has them: without what is not set, and where it lay on the machine that ran."""
    told = {key: value for key, value in values.items() if key != "path" and value not in (None, "", {}, [])}
    return ", ".join(f"{key.replace('_', ' ')} {_worded(value)}" for key, value in told.items())


def _worded(value: JsonValue) -> str:
    if isinstance(value, dict):
        return f"({_in_words(value)})"
    return " and ".join(map(_worded, value)) if isinstance(value, list) else str(value)
