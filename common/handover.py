"""A model as it is handed over: a folder with weights, plan and card, known by hashes and signed; what both
ends agree on.

Files: `model.safetensors`, `plan.yaml` (with the input contract: the preprocessing is part of the plan),
`model.onnx`, `card.json` (what the model is, and the SHA-256 of each file), `card.html` (the same for
people), `signature.json` (the coordinator's signature over the hash of every file: common/signature.py). A
simulated run's folder is read too: it has no card.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import SafetensorError
from safetensors.numpy import load

from common.config import load_yaml
from common.errors import ConfigError
from common.foreign import FILE as CONTRACT
from common.foreign import Contract
from common.plan import Plan
from common.results.card import FILE as CARD
from common.results.card import Card, read_card
from common.results.run import FILE as RESULT
from common.results.run import Bin, calibration_of, read_result, thresholds_of
from common.signature import SIGNATURE, Authority, verify_folder
from common.wire import Weights, model_part

MODEL, PLAN, ONNX = "model.safetensors", "plan.yaml", "model.onnx"
PAGE = "card.html"
RESEARCH_USE = "Research use, not a medical device."
UNSIGNED = "the model is not signed: nobody says that it is the federation's"


@dataclass(frozen=True)
class Handed:
    """A model that can be used."""

    folder: Path
    plan: Plan
    weights: Weights
    run: str
    """Identifies the run to sites, which may have tensors of their own in it; "" where that is not known."""
    temperature: float
    """Of common/calibration.py; NaN if it was not fitted."""
    thresholds: Mapping[str, float]
    """Finding -> chosen on validation patients, on the probability before calibration; without those for
    which nobody could choose one, or of which a card of before does not tell."""
    data: str = ""
    """Path of the data that a simulation split, as it was given; "" where that is not known."""
    data_sha256: str = ""
    """Of their tables (client/prediction/parts.py); "" where that is not known."""
    cohorts: frozenset[str] = frozenset()
    """Fingerprints of the cohorts that a simulation trained on; empty where that is not known."""
    hospitals: frozenset[str] = frozenset()
    """Who took part in the run; empty where that is not known, and of a simulation."""
    calibration: Mapping[str, Sequence[Bin]] = field(default_factory=dict)
    """Finding -> how often scores were right on test patients, before the temperature; empty where nobody
    judged it."""
    sha256: str = ""
    """Of the file of its weights, hex; "" of a model that others made."""
    foreign: Contract | None = None
    """Of a model that others made: nobody here knows on whom, or how, it was trained."""


def read_model(folder: Path) -> Handed:
    """A model from its folder. The card, if there is one, must fit the files.

    Raises:
        ConfigError: a file is missing or not readable, or its hash is not the card's.
        RunError: the card or the result is damaged, or of another version.
    """
    if (folder / CONTRACT).is_file():
        contract = load_yaml(folder / CONTRACT, Contract)
        own = {} if contract.threshold is None else {contract.findings[0]: contract.threshold}
        return Handed(folder, contract.plan(), {}, "", math.nan, own, foreign=contract)
    if not (folder / MODEL).is_file() or not (folder / PLAN).is_file():
        raise ConfigError(
            f"{folder}: not a model's folder: expected {MODEL} and {PLAN}; make one with: pneumofed server "
            "export RUN"
        )
    card = _card(folder) if (folder / CARD).exists() else None
    run, temperature, thresholds = (
        (card.run, card.temperature, card.chosen_thresholds) if card else _simulation(folder)
    )
    plan = load_yaml(folder / PLAN, Plan)
    try:
        data = (folder / MODEL).read_bytes()
        weights = model_part(load(data))
    except (SafetensorError, OSError, ValueError, TypeError) as e:
        raise ConfigError(f"{folder / MODEL}: not a readable safetensors file ({type(e).__name__})") from None
    calibration = _calibration(folder, card)
    if plan.strategy.method.judges_own:  # cards of before, and runs, tell those of the hospitals' own models
        temperature, thresholds, calibration = math.nan, {}, {}
    known = {finding: value for finding, value in thresholds.items() if not math.isnan(value)}
    hospitals = frozenset(card.sites) if card and card.kind == "deployment" else frozenset()
    return Handed(
        folder, plan, weights, run, temperature, known, *_data(folder), _cohorts(folder, card), hospitals,
        calibration, hashlib.sha256(data).hexdigest(),
    )  # fmt: skip


def _card(folder: Path) -> Card:
    """After the files were found to be those that it describes."""
    card = read_card(folder)
    for name, expected in card.files.items():
        if sha256_of(folder / name) != expected:
            raise ConfigError(
                f"{folder / name}: is not the file that the card describes: its hash differs; get the whole "
                "folder again"
            )
    return card


def _simulation(folder: Path) -> tuple[str, float, Mapping[str, float]]:
    """The same of a simulated run's result, if there is one: it has no card."""
    if not (folder / RESULT).is_file():
        return "", math.nan, {}
    result = read_result(folder)
    return "simulation", result.temperature, thresholds_of(result)


def _calibration(folder: Path, card: Card | None) -> Mapping[str, Sequence[Bin]]:
    if card is not None:
        return card.calibration or {}
    return calibration_of(read_result(folder)) if (folder / RESULT).is_file() else {}


def _cohorts(folder: Path, card: Card | None) -> frozenset[str]:
    if card is not None:
        return frozenset((card.cohorts or {}).values())
    known = read_result(folder).cohorts if (folder / RESULT).is_file() else None
    return frozenset((known or {}).values())


def _data(folder: Path) -> tuple[str, str]:
    data = read_result(folder).data if (folder / RESULT).is_file() else {}
    path, sha256 = data.get("path"), data.get("sha256")
    return path if isinstance(path, str) else "", sha256 if isinstance(sha256, str) else ""


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file. Raises ConfigError if it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as e:
        raise ConfigError(f"{path}: cannot be read: {e.strerror}") from None


def read_signed(folder: Path, ca: Path, revoked: Path) -> tuple[Handed, str]:
    """A model, and who signed it; "" if it is not signed.

    Raises:
        ConfigError: it is signed, and the signature does not count; or as `read_model`.
    """
    signer = verify_model(folder, Authority.read(ca, revoked)) if (folder / SIGNATURE).is_file() else ""
    return read_model(folder), signer


def verify_model(folder: Path, authority: Authority) -> str:
    """Check that the folder was signed by the federation, and every file of it; returns who signed.

    Raises:
        ConfigError: a file is missing, was changed, was added or is unsigned, or the signature does not
        count.
    """
    signer = verify_folder(folder, authority)
    read_model(folder)
    return signer
