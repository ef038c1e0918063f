import json
import shutil
from dataclasses import replace

import pytest
from safetensors.numpy import load_file, save_file

from common.errors import ConfigError
from common.handover import MODEL, ONNX, PAGE, read_model, verify_model
from common.results.card import FILE as CARD
from common.results.run import write_result
from common.signature import SIGNATURE, Authority
from server.export import export_run
from server.provision import init_server
from server.settings import ServerFolder, ServerSettings
from tests.helpers.plans import small_plan
from tests.helpers.results import finding_detail, run_result
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
    with pytest.raises(ConfigError, match="nosuch: there is no such folder"):
        verify_model(tmp_path / "nosuch", authority)
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
    assert (handed.thresholds, str(handed.temperature), handed.calibration) == ({}, "nan", {})


def test_each_finding_s_threshold_is_handed_over(tmp_path):
    """Of a run's folder, of its card, and of a card of before, which told the first one's alone."""
    plan = small_plan(findings=("pneumonia", "effusion", "nodule"))
    run = deployed_run(tmp_path / "run", plan)
    nobodys = finding_detail(0.5)
    nobodys = replace(nobodys, confusion=replace(nobodys.confusion, chosen=False))
    details = {"pneumonia": finding_detail(0.5), "effusion": finding_detail(0.2), "nodule": nobodys}
    write_result(run, replace(run_result({"st-mary": 0.8}), findings=plan.findings, details=details))
    out = export_run(run, tmp_path / "out", None)
    chosen = {"pneumonia": 0.5, "effusion": 0.2}
    assert read_model(run).thresholds == read_model(out).thresholds == chosen
    assert "threshold of effusion" in (out / PAGE).read_text()
    card = json.loads((out / CARD).read_text())
    del card["thresholds"]
    (out / CARD).write_text(json.dumps(card))
    assert read_model(out).thresholds == {"pneumonia": 0.5}
