"""`pneumofed server export`: a finished run as a folder to hand over, with a card that says what the model is
and is not."""

import datetime
import json
import shutil
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save

from common import wire
from common.config import dump_yaml, load_yaml
from common.credentials import read_certificate, read_key
from common.errors import RunError
from common.files import without_nan, write_atomically
from common.handover import CARD, FORMAT, MODEL, ONNX, PAGE, PLAN, RESEARCH_USE, sha256_of
from common.models import CNNLSTM, build_model
from common.models.whole import WholeSequences
from common.plan import Plan
from common.report.card import render_card
from common.signature import sign_folder
from server.settings import ServerFolder

OPSET = 17
TOLERANCE = 1e-5
"""Largest difference of a logit between ONNX and PyTorch, relative to 1 or to the logit if that is larger."""


def export_run(run: Path, out: Path, signer: ServerFolder | None) -> Path:
    """Write the folder `out` for the run in `run`: a deployed one's folder, or a simulated one's.

    Raises:
        RunError: the run is not finished, `out` exists, or the exported model does not give what the trained
        one gives.
    """
    if out.exists():
        raise RunError(f"{out}: exists already; choose another --out")
    if not (run / MODEL).is_file() or not (run / PLAN).is_file():
        raise RunError(f"{run}: holds no finished run; see: pneumofed server status")
    if signer is not None and not signer.signing_key.exists():
        raise RunError(
            f"{signer.path}: has no signing certificate yet; make one with: pneumofed server renew signing"
        )
    plan, building = load_yaml(run / PLAN, Plan), out.with_name(f".{out.name}.building")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    try:
        weights = wire.model_part(load_file(run / MODEL))
        model = build_model(plan)
        wire.set_weights(model, weights)
        write_atomically(building / MODEL, save(weights, metadata={"plan_sha256": plan.sha256}))
        write_atomically(building / PLAN, dump_yaml(plan).encode())
        export_onnx(model, plan, building / ONNX)
        card = {
            **describe(run, plan),
            "files": {name: sha256_of(building / name) for name in (MODEL, PLAN, ONNX)},
        }
        text = (json.dumps(without_nan(card), indent=2, allow_nan=False) + "\n").encode()
        write_atomically(building / CARD, text)
        write_atomically(building / PAGE, render_card(without_nan(card), signer is not None).encode())
        if signer is not None:
            sign_folder(building, read_key(signer.signing_key), read_certificate(signer.signing))
        building.rename(out)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    return out


def export_onnx(model: CNNLSTM, plan: Plan, path: Path) -> None:
    """The model for sequences of any length, checked against PyTorch in onnxruntime.

    Inputs: frames (B, T, size, size) float32 in [0, 1], gaps (B, T) float32 days or millimetres, the first 0.
    Outputs: logits (B, K), weights of the frames (B, T).

    Raises:
        RunError: a logit differs by more than TOLERANCE.
    """
    model.eval()
    side = plan.input.size
    frames, gaps = _example(2, max(2, plan.input.min_frames), side)
    some = {0: "batch", 1: "time"}
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # that a newer exporter exists; it does not take a length that varies through an LSTM
        torch.onnx.export(
            WholeSequences(model, side), (frames, gaps), str(path), 
            input_names=["frames", "gaps"], output_names=["logits", "weights"],
            dynamic_axes={"frames": some, "gaps": some, "logits": {0: "batch"}, "weights": some},
            opset_version=OPSET, dynamo=False,
        )  # fmt: skip
    worst = difference_to_onnx(model, plan, path)
    if worst > TOLERANCE:
        raise RunError(
            f"{path}: the exported model differs from the trained one by {worst:.1e}, at most {TOLERANCE:g} "
            "is allowed"
        )


def difference_to_onnx(model: CNNLSTM, plan: Plan, path: Path) -> float:
    """The largest difference of a logit over several lengths and batches."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    worst = 0.0
    for n, t in ((1, 1), (1, plan.input.max_frames), (3, max(1, plan.input.max_frames // 2))):
        frames, gaps = _example(n, t, plan.input.size)
        with torch.no_grad():
            expected = model(frames, gaps, torch.full((n,), t)).numpy()
        found = session.run(["logits"], {"frames": frames.numpy(), "gaps": gaps.numpy()})[0]
        worst = max(worst, float((np.abs(found - expected) / np.maximum(1.0, np.abs(expected))).max()))
    return worst


def _example(n: int, t: int, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(n * 1000 + t)
    gaps = 10 * torch.rand(n, t, generator=generator)
    gaps[:, 0] = 0.0
    return torch.rand(n, t, side, side, generator=generator), gaps


def describe(run: Path, plan: Plan) -> dict[str, Any]:
    """The card, but for the files' hashes: what is known of the run, and nothing that is not."""
    simulated = _read(run / "metrics.json")
    history, survey, record = (
        _read(run / "history.json") or [],
        _read(run / "survey.json") or {},
        _read(run / "run.json") or {},
    )
    known = _of_simulation(simulated) if simulated else _of_deployment(history, survey, plan)
    privacy = None
    if plan.privacy is not None:
        promised = {
            "epsilon": plan.privacy.epsilon,
            "noise_multiplier": plan.privacy.noise_multiplier,
            "delta": plan.privacy.delta,
        }
        privacy = {
            **promised,
            "unit": "patient",
            "what": "of each patient at each site, for the whole run; sites keep the account",
        }
    return {
        "format": FORMAT,
        "name": plan.name,
        "run": record.get("run", "simulation"),
        "kind": "simulation" if simulated else "deployment",
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "use": RESEARCH_USE,
        "intended_use": "Estimating, for research, the probability of the findings below from a sequence of "
        "chest images.",
        "limits": _limits(plan, simulated is not None),
        "plan_sha256": plan.sha256,
        "findings": list(plan.findings),
        "input": plan.input.model_dump(mode="json"),
        "model": plan.model.model_dump(mode="json"),
        "strategy": plan.strategy.model_dump(mode="json"),
        "rounds": plan.rounds,
        "privacy": privacy,
        **known,
        "versions": {name: version(name) for name in ("pneumofed", "flwr", "torch", "onnx", "onnxruntime")},
    }


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _limits(plan: Plan, simulated: bool) -> list[str]:
    contract = plan.input
    lengths = f"{contract.min_frames} to {contract.max_frames}"
    kind = "frontal chest X-rays" if contract.modality == "xray" else "CT of the chest"
    found = [
        f"Only {kind}, {lengths} images; others are refused.",
        "Judged on patients of the hospitals that trained it; elsewhere it may be worse, and nobody knows by "
        "how much.",
        "Probabilities hold where the finding is as frequent as among the validation patients.",
    ]
    if simulated:
        found.append("Trained in a simulation: no hospital took part.")
    if plan.privacy is None:
        found.append(
            "Trained without differential privacy: it may tell something of its training patients "
            "(docs/threat-model.md)."
        )
    return found


def _of_simulation(found: Mapping[str, Any]) -> dict[str, Any]:
    sites = {
        name: {
            "patients": site["n_patients"],
            "split": site["split"],
            "prevalence": site["prevalence"],
            "test": site["federated"],
        }
        for name, site in found["sites"].items()
    }
    federated = found["test"]["federated"]
    return {
        "sites": sites,
        "metrics": {
            "on": "test patients",
            **{k: v for k, v in federated.items() if k not in ("mean", "calibrated")},
        },
        "subgroups": found.get("subgroups", {}),
        "threshold": found["confusion"]["threshold"],
        "temperature": federated["calibrated"]["temperature"],
    }


def _of_deployment(history: list[dict[str, Any]], survey: Mapping[str, Any], plan: Plan) -> dict[str, Any]:
    """Test patients stay at the sites: what is known are the counts that they told, and validation after the
    last round."""
    judged: dict[str, Any] = next((r["evaluation"] for r in reversed(history) if r.get("evaluation")), {})
    trained = {site for report in history for site in report["sites"]}
    about = survey.get("sites", {})
    sites = {
        name: {
            "patients": about.get(name, {}).get(wire.N_TRAIN),
            "rounds": sum(name in report["sites"] for report in history),
            "validation": {
                k: v
                for k, v in judged.get("sites", {}).get(name, {}).items()
                if k in (wire.AUROC, wire.AUROC_SE, wire.BRIER)
            },
        }
        for name in sorted(trained)
    }
    auroc, error = judged.get(wire.AUROC), judged.get(wire.AUROC_SE)
    interval = (
        [max(0.0, auroc - 1.96 * error), min(1.0, auroc + 1.96 * error)]
        if auroc is not None and error is not None
        else [None, None]
    )
    metrics = {
        "on": "validation patients, after the last round",
        "auroc": auroc,
        "auroc_ci": interval,
        "brier": judged.get(wire.BRIER),
    }
    return {
        "sites": sites,
        "metrics": metrics,
        "subgroups": {},
        "threshold": None,
        "temperature": judged.get("temperature"),
    }


_TOLD = (wire.AUROC, wire.AUROC_SE, wire.BRIER)
