"""Which tensors stay at a site, by going through the model's own modules."""

import pytest
from torch import nn

from common.methods import METHODS
from common.models import build_model
from common.models.personal import personal_names
from common.plan import Input, Model, Strategy, Training
from tests.helpers.plans import small_plan


def of(name, encoder="cnn3"):
    plan = small_plan(
        input=Input(size=32),
        strategy=Strategy(name=name),
        model=Model(encoder=encoder, embedding=8, hidden=8),
        training=Training(momentum=0.0),
    )
    model = build_model(plan)
    return personal_names(plan, model), model


@pytest.mark.parametrize("encoder", ["cnn3", "resnet18", "efficientnet_b0", "densenet121", "vit_tiny"])
def test_fedbn_keeps_exactly_the_parameters_of_the_norms(encoder):
    names, model = of("FedBN", encoder)
    norms = [module for module in model.modules() if isinstance(module, (nn.GroupNorm, nn.LayerNorm))]
    assert {id(p) for n, p in model.named_parameters() if n in names} == {
        id(p) for norm in norms for p in norm.parameters()
    }
    assert len(names) == 2 * len(norms) > 0


def test_fedper_keeps_the_head_and_ditto_a_whole_model():
    names, model = of("FedPer")
    assert names == {f"head.{n}" for n, _ in model.head.named_parameters()}
    names, model = of("Ditto")
    assert names == {n for n, _ in model.named_parameters()}


def test_most_methods_keep_nothing():
    nothing = [name for name in METHODS if not of(name)[0]]
    assert {"FedAvg", "FedProx", "SCAFFOLD", "FedMedian", "Krum"} <= set(nothing)
    assert not {"FedBN", "FedPer", "Ditto"} & set(nothing)
