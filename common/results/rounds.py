"""One round of a run: what the checkpoint, history.json and the report's page say of it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

from pydantic import Field

from common import wire
from common.metrics import Estimate
from common.results.form import IF_KNOWN, Number, Result, parse, read, to_tree, write

UPDATE_NORM = "update_norm"
Numbers = Mapping[str, Number]
"""By their names in common/wire.py."""


IF_ANY = Field(exclude_if=lambda noted: not noted)


@dataclass(frozen=True, kw_only=True)
class PrivateScores(Result):
    """What a private run's noisy counts (common/soft_counts.py) come to; NaN where noise drowns them. The
    intervals cover the noise and who the patients are."""

    thresholds: Mapping[str, Estimate]  # finding -> on the probability before the temperature
    temperature: Estimate


@dataclass(frozen=True, kw_only=True)
class Evaluation(Result):
    """The global model on the sites' validation patients: means over sites, weighted by patients."""

    loss: Number
    auroc: Number
    brier: Number
    temperature: Number  # common/calibration.py
    auroc_se: Annotated[Number, Field(alias=wire.AUROC_SE)]
    sites: Mapping[str, Numbers]  # what each told: wire.evaluate_numbers
    failed: Mapping[str, str]  # site -> why it gave none
    private: Annotated[PrivateScores | None, IF_KNOWN] = None


@dataclass(frozen=True, kw_only=True)
class RoundReport(Result):
    """One round of training, and the evaluation of its model if one was due."""

    round: int
    bytes_down: int
    bytes_up: int
    sites: Mapping[str, Numbers]  # TRAIN_NUMBERS and UPDATE_NORM of each whose update counts
    failed: Mapping[str, str]  # site -> why its update does not count
    evaluation: Evaluation | None = None
    seconds: Number = 0.0
    noted: Annotated[Mapping[str, str], Field(exclude_if=lambda noted: not noted)] = field(
        default_factory=dict
    )
    """Site -> what is odd about an update that counts."""

    def judged(self, evaluation: Evaluation | None, bytes_down: int, seconds: float) -> "RoundReport":
        """With what came after training: the evaluation, the bytes that it sent, and the whole round's
        time."""
        total = self.bytes_down + bytes_down
        return replace(self, evaluation=evaluation, bytes_down=total, seconds=seconds)


History = Sequence[RoundReport]
FILE = "history.json"
_CURE = "finish the run with that version, or start it anew"


def trained(history: History) -> list[str]:
    """The sites of which an update counted in any round, by name."""
    return sorted({site for report in history for site in report.sites})


def history_text(history: History) -> str:
    """For a checkpoint: JSON in one line, NaN as it is."""
    return json.dumps(to_tree(history))


def parse_history(text: str | bytes, where: str) -> History:
    """The rounds in JSON. Raises RunError if it does not hold rounds of this version."""
    return parse(tuple[RoundReport, ...], text, where, _CURE)


def write_history(folder: Path, history: History) -> None:
    """history.json of a finished run. Raises OSError."""
    write(folder / FILE, tuple(history))


def read_history(folder: Path) -> History:
    """Of a finished run. Raises RunError if there is none, or it is of another version."""
    return read(tuple[RoundReport, ...], folder / FILE, _CURE)
