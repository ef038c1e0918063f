import pytest
import torch

from common.models import build_model
from common.models.whole import WholeSequences
from common.plan import Input, Model
from tests.helpers.plans import small_plan


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["cnn3", "resnet18", "efficientnet_b0", "densenet121", "vit_tiny"])
@pytest.mark.parametrize(
    "values",
    [
        {}, {"pooling": "last", "context": 0}, {"pooling": "mean", "bidirectional": True, "context": 2}, {"layers": 2, "time_gap": False},
        {"recurrent": False}, {"l2_normalise": False},
    ],
    ids=str,
)  # fmt: skip
def test_the_model_without_padding_is_the_model(encoder, values):
    if encoder != "cnn3" and values not in ({}, {"recurrent": False}):
        pytest.skip("the rest of the model is the same for all encoders")
    model = build_model(
        small_plan(
            input=Input(size=32),
            model=Model(**{"encoder": encoder, "width": 4, "embedding": 8, "hidden": 8, **values}),
        )
    ).eval()
    for side in (32, 48):
        whole = WholeSequences(model, side).eval()
        for n, t in ((1, 1), (2, 5)):
            frames, gaps = torch.rand(n, t, side, side), torch.rand(n, t) * 9
            gaps[:, 0] = 0
            with torch.no_grad():
                expected = model.explain(frames, gaps, torch.full((n,), t))
                found = whole(frames, gaps)
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
