"""A model as it is handed over: a folder with weights, plan and card, known by hashes and signed; what both
ends agree on.

Files: `model.safetensors`, `plan.yaml` (with the input contract: the preprocessing is part of the plan),
`model.onnx`, `card.json` (what the model is, and the SHA-256 of each file), `card.html` (the same for
people), `signature.json` (the coordinator's signature over card.json, and the certificate of the key). A
simulated run's folder is read too: it has no card.
"""

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from safetensors import SafetensorError
from safetensors.numpy import load

from common.config import load_yaml
from common.credentials import common_name, read_certificate
from common.errors import ConfigError
from common.plan import Plan
from common.wire import Weights, model_part

FORMAT = "pneumofed-card-1"
MODEL, PLAN, ONNX = "model.safetensors", "plan.yaml", "model.onnx"
CARD, PAGE, SIGNATURE = "card.json", "card.html", "signature.json"
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
    try:
        found = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        return {
            "run": "simulation", "threshold": found["confusion"]["threshold"],
            "temperature": found["test"]["federated"]["calibrated"]["temperature"],
        }  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file. Raises ConfigError if it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as e:
        raise ConfigError(f"{path}: cannot be read: {e.strerror}") from None


def sign(card: bytes, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> bytes:
    """signature.json: ECDSA with SHA-384 over the card's bytes, and the certificate of the key that made
    it."""
    signature = base64.b64encode(key.sign(card, ec.ECDSA(hashes.SHA384()))).decode()
    pem = certificate.public_bytes(Encoding.PEM).decode()
    return (json.dumps({"signature": signature, "certificate": pem}, indent=2) + "\n").encode()


def verify_model(folder: Path, ca: Path) -> str:
    """Check that the folder's card was signed under the federation's CA, and every file against it; returns
    who signed.

    Raises:
        ConfigError: a file is missing, was changed or is unsigned, or the signature is not of a key under the
        CA.
    """
    read_model(folder)
    card = read_card(folder)
    if not {MODEL, PLAN} <= card.get("files", {}).keys():
        raise ConfigError(f"{folder / CARD}: does not name the hashes of {MODEL} and {PLAN}")
    path = folder / SIGNATURE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        signature, pem = base64.b64decode(found["signature"], validate=True), found["certificate"].encode()
        certificate = x509.load_pem_x509_certificate(pem)
    except FileNotFoundError:
        raise ConfigError(
            f"{folder}: is not signed; the coordinator signs with: pneumofed server export RUN"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, binascii.Error):
        raise ConfigError(f"{path}: not a readable signature") from None
    try:
        certificate.verify_directly_issued_by(read_certificate(ca))
    except Exception:  # cryptography raises several kinds, all meaning no
        raise ConfigError(f"{path}: its key is not under the CA {ca}") from None
    public = certificate.public_key()
    try:
        if not isinstance(public, ec.EllipticCurvePublicKey):
            raise InvalidSignature
        public.verify(signature, (folder / CARD).read_bytes(), ec.ECDSA(hashes.SHA384()))
    except InvalidSignature:
        raise ConfigError(
            f"{path}: is not the signature of this card: the card was changed after it was signed"
        ) from None
    return common_name(certificate)
