"""The hand-over: ONNX that gives what PyTorch gives, a card that says what is known, a signature that breaks
when anything changes."""

import json
import shutil

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.numpy import load_file, save_file

from common.errors import ConfigError, RunError
from common.handover import MODEL, ONNX, PAGE, RESEARCH_USE, read_model, verify_model
from common.models import build_model
from common.plan import Input, Model
from common.results.card import FILE as CARD
from common.results.card import DeployedSite, read_card
from common.signature import SIGNATURE, Authority
from server.export import export_run
from server.provision import init_server
from server.settings import ServerFolder, ServerSettings
from tests.helpers.plans import small_plan
from tests.helpers.runs import deployed_run


@pytest.fixture
def coordinator(tmp_path):
    folder = ServerFolder(tmp_path / "server")
    init_server(folder, ServerSettings(host="localhost"))
    return folder


def test_what_is_handed_over_is_whole_signed_and_the_same_model(coordinator, tmp_path):
    run = deployed_run(tmp_path / "run")
    out = export_run(run, tmp_path / "out", coordinator)
    assert {p.name for p in out.iterdir()} == {MODEL, "plan.yaml", ONNX, CARD, PAGE, SIGNATURE}
    assert verify_model(out, Authority.read(coordinator.ca_certificate, coordinator.revoked)) == "localhost"
    handed = read_model(out)
    assert (handed.run, handed.temperature, handed.threshold) == ("abc123", 1.4, None)
    expected = load_file(run / MODEL)
    assert all(np.array_equal(handed.weights[n], expected[n]) for n in expected)
    card = read_card(out)
    numbers = {"auroc": 0.9, "auroc-se": 0.02, "brier": 0.1}
    assert card.sites["st-mary"] == DeployedSite(patients=80, rounds=1, validation=numbers)
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


@pytest.mark.parametrize(
    "model",
    [{}, {"pooling": "last", "bidirectional": True, "layers": 2}, {"recurrent": False}, {"context": 0}],
    ids=str,
)
@pytest.mark.parametrize("size", [16, 50])
def test_onnx_takes_any_length_and_gives_the_same_logits(tmp_path, model, size):
    plan = small_plan(
        input=Input(size=size, max_frames=5),
        model=Model(**{"width": 4, "embedding": 8, "hidden": 8, **model}),
    )
    out = export_run(deployed_run(tmp_path / "run", plan), tmp_path / "out", None)
    network = build_model(plan).eval()
    session = onnxruntime.InferenceSession(str(out / ONNX), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    for n, t in ((1, 1), (1, 7), (4, 3)):
        frames, gaps = rng.random((n, t, size, size), np.float32), 9 * rng.random((n, t), np.float32)
        gaps[:, 0] = 0
        with torch.no_grad():
            logits, weights = network.explain(
                torch.from_numpy(frames), torch.from_numpy(gaps), torch.full((n,), t)
            )
        found = session.run(None, {"frames": frames, "gaps": gaps})
        np.testing.assert_allclose(found[0], logits.numpy(), atol=1e-5)
        np.testing.assert_allclose(found[1], weights.numpy(), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["resnet18", "efficientnet_b0"])
def test_the_large_encoders_export_too(tmp_path, encoder):
    plan = small_plan(input=Input(size=32, max_frames=3), model=Model(encoder=encoder, embedding=8, hidden=8))
    assert (
        export_run(deployed_run(tmp_path / "run", plan), tmp_path / "out", None) / ONNX
    ).stat().st_size > 10**7


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


def test_an_unfinished_run_is_refused(tmp_path):
    with pytest.raises(RunError, match="holds no finished run"):
        export_run(tmp_path, tmp_path / "out", None)
    assert not list(tmp_path.glob(".out*"))
