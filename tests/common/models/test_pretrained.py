"""Pretrained encoders: the conversion against BatchNorm itself, and every file that does not fit."""

import hashlib
import re

import pytest
import torch
from safetensors.torch import save
from torch import nn
from torchvision.models import densenet121, efficientnet_b0, resnet18

from common.errors import ConfigError
from common.models import vit
from common.models.adapters import adapters_of
from common.models.encoders import ENCODERS, build_encoder
from common.models.pretrained import convert_norm, load_encoder, starting_model
from common.plan import Model
from tests.helpers.plans import small_plan


def test_a_converted_norm_gives_what_batchnorm_gives_on_the_average_image():
    torch.manual_seed(0)
    channels, groups = 16, 4
    mean, variance = torch.randn(channels), torch.rand(channels) + 0.1
    batch = nn.BatchNorm2d(channels).eval()
    batch.running_mean, batch.running_var = mean.clone(), variance.clone()
    nn.init.normal_(batch.weight)
    nn.init.normal_(batch.bias)
    # An image whose every channel has exactly the running mean and variance.
    x = torch.randn(1, channels, 12, 12)
    x = (x - x.mean((2, 3), keepdim=True)) / x.std((2, 3), keepdim=True, correction=0)
    x = x * variance.sqrt().view(1, -1, 1, 1) + mean.view(1, -1, 1, 1)
    group = nn.GroupNorm(groups, channels)
    group.load_state_dict({"weight": batch.weight, "bias": batch.bias})
    assert not torch.allclose(group(x), batch(x), atol=0.1)
    with torch.no_grad():
        convert_norm(group, mean, variance)
    torch.testing.assert_close(group(x), batch(x), rtol=1e-4, atol=1e-4)


def trained(build):
    """torchvision's own network with running statistics of some data, as a pretrained file has."""
    torch.manual_seed(1)
    net = build(num_classes=10).train()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None  # a plain average
                nn.init.normal_(module.weight, 1.0, 0.2)
                nn.init.normal_(module.bias, 0.0, 0.2)
        for _ in range(3):
            net(torch.randn(8, 1, 64, 64).repeat(1, 3, 1, 1) * 1.5)
    return net.eval()


@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("resnet18", resnet18),
        ("efficientnet_b0", efficientnet_b0),
        pytest.param("densenet121", densenet121, marks=pytest.mark.slow),
    ],
)
def test_a_pretrained_encoder_is_nearer_to_the_original_than_one_with_copied_norms(name, build):
    net = trained(build)
    tensors = net.state_dict()
    model = Model(encoder=name, embedding=10, context=1)
    x = torch.randn(8, 1, 64, 64) * 1.5
    framed = torch.cat([x, torch.randn(8, 1, 64, 64)], 1)  # channel 0 is the frame, channel 1 its context
    about = ENCODERS[name]

    def features(encoder):
        with torch.no_grad():
            return _before_pooling(encoder, framed).mean((2, 3))

    converted, copied = build_encoder(model, 2), build_encoder(model, 2)
    load_encoder(converted, name, tensors, "file")
    load_encoder(copied, name, {k: v for k, v in tensors.items() if "running" not in k}, "file")
    with torch.no_grad():
        original = _before_pooling(net, x.repeat(1, 3, 1, 1)).mean((2, 3))
    near, far = (
        torch.nn.functional.cosine_similarity(features(e), original).mean() for e in (converted, copied)
    )
    fresh = torch.nn.functional.cosine_similarity(features(build_encoder(model, 2)), original).mean()
    assert near > far
    assert near > max(fresh + 0.2, 0.6)
    assert about.first in dict(converted.named_parameters())


def _before_pooling(net, x):
    if hasattr(net, "features"):  # DenseNet's end with a norm
        return net.features(x).relu() if hasattr(net.features, "norm5") else net.features(x)
    for part in (net.conv1, net.bn1, net.relu, net.maxpool, net.layer1, net.layer2, net.layer3, net.layer4):
        x = part(x)
    return x


@pytest.fixture
def file(tmp_path):
    def make(tensors=None, data=None):
        path = tmp_path / "encoder.safetensors"
        path.write_bytes(data if data is not None else save({k: v.contiguous() for k, v in tensors.items()}))
        return path, hashlib.sha256(path.read_bytes()).hexdigest()

    return make


def plan_with(sha256, **model):
    return small_plan(model=Model(encoder="resnet18", embedding=8, hidden=8, pretrained=sha256, **model))


def test_a_run_starts_from_the_file_and_only_its_head_from_the_seed(file):
    tensors = trained(resnet18).state_dict()
    path, sha256 = file(tensors)
    model = starting_model(plan_with(sha256), path)
    torch.testing.assert_close(model.encoder.layer2[0].conv1.weight, tensors["layer2.0.conv1.weight"])
    torch.testing.assert_close(model.encoder.conv1.weight[:, 0], tensors["conv1.weight"].sum(1))
    assert model.encoder.conv1.weight[:, 1].abs().sum() == 0
    assert torch.equal(model.encoder.fc.weight, starting_model(plan_with(None), None).encoder.fc.weight)


def test_weights_of_chest_models_fit_for_one_grey_channel_of_any_scale():
    """torchxrayvision's DenseNet: torchvision's names, one channel, grey values of -1024 to 1024. A norm
    behind the first convolution makes what it gives the same for frames of variance 1."""
    torch.manual_seed(0)
    tensors = densenet121(num_classes=18).state_dict() | {"op_threshs": torch.full((18,), torch.nan)}
    grey = torch.randn(64, 1, 7, 7)
    tensors |= {"features.norm0.running_var": torch.rand(64) * 1e6 + 1e5}
    x, found = torch.randn(2, 2, 32, 32), []
    for factor in (1.0, 600.0):
        encoder = build_encoder(Model(encoder="densenet121", embedding=8), 2)
        load_encoder(encoder, "densenet121", {**tensors, "features.conv0.weight": grey * factor}, "file")
        assert torch.equal(encoder.features.conv0.weight[:, :1], grey * factor)
        with torch.no_grad():
            found.append(encoder.features(x))
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_a_file_that_does_not_fit_is_refused_by_name(file, tmp_path):
    tensors = trained(resnet18).state_dict()
    path, sha256 = file(tensors)
    with pytest.raises(ConfigError, match="SHA-256 " + sha256[:12]):
        starting_model(plan_with("0" * 64), path)
    with pytest.raises(ConfigError, match="no file, and the plan starts from"):
        starting_model(plan_with(sha256), None)
    with pytest.raises(ConfigError, match="the plan names none"):
        starting_model(plan_with(None), path)
    with pytest.raises(ConfigError, match="cannot be read"):
        starting_model(plan_with(sha256), tmp_path / "absent")
    path, sha256 = file({k: v for k, v in tensors.items() if k != "layer3.0.conv2.weight"})
    with pytest.raises(ConfigError, match=r"layer3\.0\.conv2\.weight is missing"):
        starting_model(plan_with(sha256), path)
    path, sha256 = file({**tensors, "layer1.0.conv1.weight": torch.zeros(64, 64, 5, 5)})
    with pytest.raises(
        ConfigError,
        match=re.escape("layer1.0.conv1.weight: found shape (64, 64, 5, 5), expected (64, 64, 3, 3)"),
    ):
        starting_model(plan_with(sha256), path)
    for odd in (torch.zeros(64), torch.zeros(3, 3, 7, 7)):
        path, sha256 = file({**tensors, "conv1.weight": odd})
        with pytest.raises(ConfigError, match=r"conv1\.weight: found shape"):
            starting_model(plan_with(sha256), path)
    path, sha256 = file(data=b"rubbish" * 100)
    with pytest.raises(ConfigError, match="not a safetensors file"):
        starting_model(plan_with(sha256), path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"layer1.0.conv1.weight": torch.full((64, 64, 3, 3), torch.nan)}, "layer1.0.conv1.weight: .*finite"),
        ({"conv1.weight": torch.full((64, 3, 7, 7), 3e38)}, "conv1.weight: .*come to such"),
        ({"bn1.running_mean": torch.full((64,), torch.nan)}, "bn1.weight: .*finite"),
        ({"bn1.running_var": torch.full((64,), -1.0)}, "bn1.running_var: .*no variance below 0"),
        ({"bn1.running_var": torch.ones(3)}, "expected both, 64 numbers each"),
        ({"bn1.running_mean": None}, "expected both"),
        ({"bn1.running_var": None}, "expected both"),
    ],
)
def test_a_file_of_no_numbers_or_half_a_norm_is_refused_in_a_line(changes, said):
    """Half a norm left a GroupNorm with BatchNorm's numbers, and no word of it."""
    tensors = resnet18().state_dict() | changes
    encoder = build_encoder(Model(encoder="resnet18", embedding=8), 2)
    with pytest.raises(ConfigError, match=f"^file: tensors? .*{said}"):
        load_encoder(encoder, "resnet18", {k: t for k, t in tensors.items() if t is not None}, "file")


def whole(tmp_path, **changes):
    """A trained model's folder, and the plan that starts from it."""
    model = starting_model(small_plan(seed=3), None)
    tensors = {name: t.clone() for name, t in model.state_dict().items()} | changes
    (tmp_path / "model.safetensors").write_bytes(data := save(tensors))
    plan = small_plan(
        model={**small_plan().model.model_dump(), "pretrained": hashlib.sha256(data).hexdigest()}
    )
    return plan, model.state_dict()


def test_a_whole_model_is_gone_on_with_from_its_file_or_folder(tmp_path):
    plan, tensors = whole(tmp_path)
    for given in (tmp_path, tmp_path / "model.safetensors"):
        found = starting_model(plan, given).state_dict()
        assert all(torch.equal(found[name], tensors[name]) for name in tensors)


def test_a_model_of_another_plan_is_refused_by_tensor(tmp_path):
    name = next(iter(starting_model(small_plan(), None).state_dict()))
    for wrong in (
        torch.zeros(3, 3),
        torch.full_like(starting_model(small_plan(), None).state_dict()[name], torch.nan),
    ):
        plan, _ = whole(tmp_path, **{name: wrong})
        with pytest.raises(ConfigError, match=f"tensor {re.escape(name)}: .*is it a model of this plan"):
            starting_model(plan, tmp_path)


def test_a_published_vision_transformer_fits_by_timm_s_names(file, monkeypatch):
    monkeypatch.setattr(vit, "DEPTH", 2)
    torch.manual_seed(0)
    model = Model(encoder="vit_tiny", embedding=8)
    theirs = build_encoder(model, 3)  # of colours, and a head of its own
    encoder = build_encoder(model, 2)
    load_encoder(encoder, "vit_tiny", {**theirs.state_dict(), "head.weight": torch.zeros(1000, 192)}, "file")
    theirs.head = encoder.head
    x = torch.randn(2, 1, 32, 32)
    framed = torch.cat([x, torch.randn(2, 1, 32, 32)], 1)
    torch.testing.assert_close(encoder(framed), theirs(x.repeat(1, 3, 1, 1)))
    distilled = {**theirs.state_dict(), "pos_embed": torch.zeros(1, 198, 192)}
    with pytest.raises(
        ConfigError, match=r"pos_embed: found shape \(1, 198, 192\), expected \(1, 197, 192\)"
    ):
        load_encoder(encoder, "vit_tiny", distilled, "file")


def test_a_model_with_adapters_starts_as_the_one_without_and_only_they_and_the_rest_train(tmp_path):
    plan, tensors = whole(tmp_path)
    adapted = plan.model_copy(update={"model": Model(**{**plan.model.model_dump(), "adapters": 2})})
    before, after = starting_model(plan, tmp_path), starting_model(adapted, tmp_path)
    inputs = torch.rand(2, 3, 16, 16), torch.rand(2, 3), torch.tensor([3, 2])
    assert torch.equal(before(*inputs), after(*inputs))
    adapters = adapters_of(after)
    assert after.state_dict().keys() - adapters == tensors.keys()
    stays = {n for n, p in after.named_parameters() if not p.requires_grad}
    assert stays == {n for n in tensors if n.startswith("encoder.features.")}
    # gone on with, adapters and all
    (tmp_path / "model.safetensors").write_bytes(data := save(after.state_dict()))
    again = Model(**{**adapted.model.model_dump(), "pretrained": hashlib.sha256(data).hexdigest()})
    found = starting_model(plan.model_copy(update={"model": again}), tmp_path).state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in after.state_dict().items())
