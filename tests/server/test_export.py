"""The hand-over: ONNX that gives what PyTorch gives, a card that says what is known, a signature that breaks
when anything changes."""

import numpy as np
import pytest
from safetensors.numpy import load_file

from common.errors import RunError
from common.handover import MODEL, ONNX, PAGE, RESEARCH_USE, read_model, verify_model
from common.results.card import FILE as CARD
from common.results.card import DeployedSite, read_card
from common.signature import SIGNATURE, Authority
from server.export import export_run
from tests.helpers.runs import deployed_run


def test_what_is_handed_over_is_whole_signed_and_the_same_model(coordinator, tmp_path):
    run = deployed_run(tmp_path / "run")
    out = export_run(run, tmp_path / "out", coordinator)
    assert {p.name for p in out.iterdir()} == {MODEL, "plan.yaml", ONNX, CARD, PAGE, SIGNATURE}
    assert verify_model(out, Authority.read(coordinator.ca_certificate, coordinator.revoked)) == "localhost"
    handed = read_model(out)
    assert (handed.run, handed.temperature, handed.thresholds) == ("abc123", 1.4, {})
    expected = load_file(run / MODEL)
    assert all(np.array_equal(handed.weights[n], expected[n]) for n in expected)
    card = read_card(out)
    numbers = {"auroc": 0.9, "auroc-se": 0.02, "brier": 0.1}
    assert card.sites["st-mary"] == DeployedSite(
        patients=80, rounds=1, validation={"num-examples": 20.0, **numbers}
    )
    assert card.sites["st-john"].patients is None
    assert card.metrics.auroc_ci == pytest.approx((0.8608, 0.9392))
    page = (out / PAGE).read_text()
    for words in (
        RESEARCH_USE,
        "withheld",
        "Signed with the coordinator",
        "No differential privacy",
        card.plan_sha256,
        "0.900",
    ):
        assert words in page
    with pytest.raises(RunError, match="exists already"):
        export_run(run, out, coordinator)


def test_an_unfinished_run_is_refused(tmp_path):
    with pytest.raises(RunError, match="holds no finished run"):
        export_run(tmp_path, tmp_path / "out", None)
    assert not list(tmp_path.glob(".out*"))
