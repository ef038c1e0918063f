import json
import shutil

import pytest
from safetensors.numpy import load_file, save_file

from common.errors import ConfigError
from common.handover import MODEL, ONNX, PAGE, read_model, verify_model
from common.results.card import FILE as CARD
from common.signature import SIGNATURE, Authority
from server.export import export_run
from server.provision import init_server
from server.settings import ServerFolder, ServerSettings
from tests.helpers.plans import small_plan
from tests.helpers.runs import deployed_run


def test_whatever_is_changed_is_found(coordinator, tmp_path):
    out = export_run(deployed_run(tmp_path / "run"), tmp_path / "out", coordinator)

    def changed(name, text=None, data=None):
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(out, copy)
        if text is None and data is None:
            (copy / name).unlink()
        else:
            (copy / name).write_bytes(data if data is not None else text.encode())
        return copy

    authority = Authority.read(coordinator.ca_certificate, coordinator.revoked)
    weights = load_file(out / MODEL)
    name = next(iter(weights))
    save_file({**weights, name: weights[name] + 1}, tmp_path / "other")
    with pytest.raises(ConfigError, match="is not the file that the card describes"):
        read_model(changed(MODEL, data=(tmp_path / "other").read_bytes()))
    with pytest.raises(ConfigError, match="is not the file that the card describes"):
        read_model(
            changed("plan.yaml", text=(out / "plan.yaml").read_text().replace("rounds: 2", "rounds: 3"))
        )
    better = json.loads((out / CARD).read_text())
    better["metrics"]["auroc"] = 0.99
    page = (out / PAGE).read_text() + "<p>CE certified</p>"
    for change, problem in (
        ({"name": ONNX}, f"{ONNX}: is signed and missing"),
        ({"name": CARD, "text": json.dumps(better)}, f"{CARD}: was changed after it was signed"),
        ({"name": PAGE, "text": page}, f"{PAGE}: was changed"),
        ({"name": "run-me.sh", "text": "#!/bin/sh"}, "holds 'run-me.sh', which is not signed"),
        ({"name": SIGNATURE}, "is not signed"),
    ):
        with pytest.raises(ConfigError, match=problem):
            verify_model(changed(**change), authority)
    stranger = ServerFolder(tmp_path / "stranger")
    init_server(stranger, ServerSettings(host="localhost"))
    with pytest.raises(ConfigError, match="not under the CA"):
        verify_model(out, Authority.read(stranger.ca_certificate, stranger.revoked))


def test_what_was_chosen_for_models_that_stay_at_the_hospitals_is_not_used_with_the_common_one(tmp_path):
    """A card of before told it."""
    out = export_run(
        deployed_run(tmp_path / "run", small_plan(strategy={"name": "Ditto"})), tmp_path / "out", None
    )
    card = json.loads((out / CARD).read_text()) | {"threshold": 0.3, "temperature": 2.0}
    (out / CARD).write_text(json.dumps(card))
    handed = read_model(out)
    assert (handed.threshold, str(handed.temperature), handed.calibration) == (None, "nan", {})
