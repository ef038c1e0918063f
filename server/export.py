"""`pneumofed server export`: a finished run as a folder to hand over, with a card that says what the model is
and is not."""

import shutil
from pathlib import Path

from safetensors.numpy import load_file, save

from common import wire
from common.config import dump_yaml, load_yaml
from common.credentials import read_certificate, read_key
from common.errors import RunError
from common.files import write_atomically
from common.handover import MODEL, ONNX, PAGE, PLAN, sha256_of
from common.models import build_model
from common.plan import Plan
from common.report.card import render_card
from common.results.card import write_card
from common.signature import sign_folder
from server.card import describe
from server.onnx_model import export_onnx
from server.runs import require_finished
from server.settings import ServerFolder


def export_run(run: Path, out: Path, signer: ServerFolder | None) -> Path:
    """Write the folder `out` for the run in `run`: a deployed one's folder, or a simulated one's.

    Raises:
        RunError: the run is not finished, `out` exists, or the exported model does not give what the trained
        one gives.
    """
    if out.exists():
        raise RunError(f"{out}: exists already; choose another --out")
    require_finished(run)
    if signer is not None and not signer.signing_key.exists():
        raise RunError(
            f"{signer.path}: has no signing certificate yet; make one with: pneumofed server renew signing"
        )
    plan, building = load_yaml(run / PLAN, Plan), out.with_name(f".{out.name}.building")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    try:
        _write_model(run, plan, building)
        card = describe(run, plan, {name: sha256_of(building / name) for name in (MODEL, PLAN, ONNX)})
        write_card(building, card)
        write_atomically(building / PAGE, render_card(card, signer is not None).encode())
        if signer is not None:
            sign_folder(building, read_key(signer.signing_key), read_certificate(signer.signing))
        building.rename(out)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    return out


def _write_model(run: Path, plan: Plan, folder: Path) -> None:
    weights = wire.model_part(load_file(run / MODEL))
    model = build_model(plan)
    wire.set_weights(model, weights)
    write_atomically(folder / MODEL, save(weights, metadata={"plan_sha256": plan.sha256}))
    write_atomically(folder / PLAN, dump_yaml(plan).encode())
    export_onnx(model, plan, folder / ONNX)
