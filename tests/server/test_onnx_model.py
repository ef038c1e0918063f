import numpy as np
import onnxruntime
import pytest
import torch

from common.handover import ONNX
from common.models import build_model
from common.plan import Input, Model
from server.export import export_run
from tests.helpers.plans import small_plan
from tests.helpers.runs import deployed_run


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
@pytest.mark.parametrize("encoder", ["resnet18", "efficientnet_b0", "densenet121", "vit_tiny"])
def test_the_large_encoders_export_too(tmp_path, encoder):
    plan = small_plan(input=Input(size=32, max_frames=3), model=Model(encoder=encoder, embedding=8, hidden=8))
    assert (
        export_run(deployed_run(tmp_path / "run", plan), tmp_path / "out", None) / ONNX
    ).stat().st_size > 10**7
