"""A model as it is handed over: a folder with weights, plan and card, known by hashes and signed; what both
ends agree on.

Files: `model.safetensors`, `plan.yaml` (with the input contract: the preprocessing is part of the plan),
`model.onnx`, `card.json` (what the model is, and the SHA-256 of each file), `card.html` (the same for
people), `signature.json` (the coordinator's signature over the hash of every file: common/signature.py). A
simulated run's folder is read too: it has no card.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load

from common.config import load_yaml
from common.errors import ConfigError
from common.plan import Plan
from common.results.run import FILE as RESULT
from common.results.run import read_result
from common.signature import Authority, verify_folder
from common.wire import Weights, model_part

FORMAT = "pneumofed-card-1"
MODEL, PLAN, ONNX = "model.safetensors", "plan.yaml", "model.onnx"
CARD, PAGE = "card.json", "card.html"
RESEARCH_USE = "Research use, not a medical device."


@dataclass(frozen=True)
class Handed:
    """A model that can be used."""

    folder: Path
    plan: Plan
    weights: Weights
    card: dict[str, Any]  # empty for a simulated run

    @property
    def run(self) -> str:
        """Identifies the run to sites, which may have tensors of their own in it."""
        return str(self.card.get("run", ""))

    @property
    def temperature(self) -> float:
        """Of common/calibration.py; NaN if it was not fitted."""
        value = self.card.get("temperature")
        return float("nan") if value is None else float(value)

    @property
    def threshold(self) -> float | None:
        """Chosen on validation patients, on the probability before calibration; None if nobody could choose
        one."""
        value = self.card.get("threshold")
        return None if value is None else float(value)


def read_model(folder: Path) -> Handed:
    """A model from its folder. The card, if there is one, must fit the files.

    Raises:
        ConfigError: a file is missing or not readable, or its hash is not the card's.
    """
    if not (folder / MODEL).is_file() or not (folder / PLAN).is_file():
        raise ConfigError(
            f"{folder}: not a model's folder: expected {MODEL} and {PLAN}; make one with: pneumofed server "
            "export RUN"
        )
    card = read_card(folder) if (folder / CARD).exists() else _card_of_simulation(folder)
    for name, expected in card.get("files", {}).items():
        if sha256_of(folder / name) != expected:
            raise ConfigError(
                f"{folder / name}: is not the file that the card describes: its hash differs; get the whole "
                "folder again"
            )
    plan = load_yaml(folder / PLAN, Plan)
    try:
        weights = model_part(load((folder / MODEL).read_bytes()))
    except (SafetensorError, OSError, ValueError, TypeError) as e:
        raise ConfigError(f"{folder / MODEL}: not a readable safetensors file ({type(e).__name__})") from None
    return Handed(folder, plan, weights, card)


def read_card(folder: Path) -> dict[str, Any]:
    """Raises ConfigError if it is not a card of ours."""
    try:
        card: dict[str, Any] = json.loads((folder / CARD).read_text(encoding="utf-8"))
        if card["format"] != FORMAT:
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigError(f"{folder / CARD}: not a model card of the format {FORMAT}") from None
    return card


def _card_of_simulation(folder: Path) -> dict[str, Any]:
    """What a simulated run's metrics.json says of its threshold and temperature."""
    if not (folder / RESULT).is_file():
        return {}
    result = read_result(folder)
    calibrated = result.test.federated.calibrated
    return {
        "run": "simulation", "threshold": result.confusion.threshold,
        "temperature": calibrated.temperature if calibrated else None,
    }  # fmt: skip


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file. Raises ConfigError if it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as e:
        raise ConfigError(f"{path}: cannot be read: {e.strerror}") from None


def verify_model(folder: Path, authority: Authority) -> str:
    """Check that the folder was signed by the federation, and every file of it; returns who signed.

    Raises:
        ConfigError: a file is missing, was changed, was added or is unsigned, or the signature does not
        count.
    """
    signer = verify_folder(folder, authority)
    read_model(folder)
    return signer
