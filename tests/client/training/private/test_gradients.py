"""The engine against an obviously correct slow twin: one patient after another through ordinary autograd."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from client.compute.batches import Batch
from client.training.private.gradients import PrivateGradients
from client.training.private.patients import Patients, number_patients
from common.errors import ConfigError
from common.models.cnn_lstm import CNNLSTM
from common.plan import Model


def loss_of(logits, labels):
    return nn.functional.binary_cross_entropy_with_logits(logits, labels, reduction="none").mean(1)


def make_batch(n_sequences, n_patients, n_frames, size, seed, findings=2):
    g = torch.Generator().manual_seed(seed)
    names = np.array([f"p{k}" for k in range(n_patients)])
    owners = np.concatenate(
        [np.arange(n_patients), np.random.default_rng(seed).integers(0, n_patients, n_sequences - n_patients)]
    )
    lengths = torch.randint(1, n_frames + 1, (n_sequences,), generator=g)
    lengths[0] = n_frames
    frames = torch.rand(n_sequences, n_frames, size, size, generator=g)
    gaps = torch.rand(n_sequences, n_frames, generator=g) * 100
    labels = torch.randint(0, 2, (n_sequences, findings), generator=g).float()
    return Batch(frames, gaps, lengths, labels), names[owners]


def take(batch, chosen):
    return Batch(*(t[chosen] for t in (batch.frames, batch.gaps, batch.lengths, batch.labels)))


def as_patients(batch, names, chosen):
    owner, count = number_patients(batch.lengths[chosen].numpy(), names[chosen])
    return Patients(take(batch, chosen), torch.from_numpy(owner), count)


def slow_twin(model, batch, names, clip):
    """sum over patients of g_p min(1, C / (|g_p| + 1e-6)), with g_p from autograd over that patient's
    sequences alone."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    total, norms = [torch.zeros_like(p) for p in parameters], {}
    for name in np.unique(names):
        mine = take(batch, np.flatnonzero(names == name))
        loss = loss_of(model(mine.frames, mine.gaps, mine.lengths), mine.labels).mean()
        gradients = torch.autograd.grad(loss, parameters)
        norms[name] = torch.sqrt(sum(g.double().square().sum() for g in gradients)).item()
        for t, g in zip(total, gradients, strict=True):
            t.add_(g, alpha=min(1.0, clip / (norms[name] + 1e-6)))
    return torch.cat([t.flatten() for t in total]), norms


def of_engine(model, batch, names, clip, chunk):
    private = copy.deepcopy(model)
    engine = PrivateGradients(private, clip)
    people = np.unique(names)
    norms = []
    for start in range(0, len(people), chunk):
        chosen = np.flatnonzero(np.isin(names, people[start : start + chunk]))
        norms += engine.accumulate(as_patients(batch, names, chosen), loss_of).tolist()
    return torch.cat([p.grad.flatten() for p in private.parameters() if p.requires_grad]), norms


def compare(model, batch, names, chunk):
    with torch.no_grad():  # away from the symmetric start, where some gradients vanish
        for p in model.parameters():
            p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())), alpha=0.02)
    _, norms = slow_twin(model, batch, names, 1e9)
    clip = float(np.median(list(norms.values())))  # half of the patients are clipped
    expected, norms = slow_twin(model, batch, names, clip)
    found, found_norms = of_engine(model, batch, names, clip, chunk)
    assert ((found - expected).norm() / expected.norm()).item() <= 1e-5
    np.testing.assert_allclose(sorted(found_norms), sorted(norms.values()), rtol=1e-4)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_clipped_sum_is_that_of_a_loop_over_patients(data):
    draw = data.draw
    model = Model(
        width=4, embedding=8, hidden=draw(st.sampled_from([4, 12])), layers=draw(st.integers(1, 2)),
        bidirectional=draw(st.booleans()), pooling=draw(st.sampled_from(["last", "mean", "attention"])),
        context=draw(st.integers(0, 2)), time_gap=draw(st.booleans()), l2_normalise=draw(st.booleans()),
        recurrent=draw(st.booleans()), frozen_stages=draw(st.integers(0, 4)),
    )  # fmt: skip
    n_patients = draw(st.integers(1, 5))
    n_sequences = n_patients + draw(st.integers(0, 3))
    torch.manual_seed(draw(st.integers(0, 1000)))
    batch, names = make_batch(
        n_sequences,
        n_patients,
        draw(st.integers(1, 5)),
        draw(st.sampled_from([16, 21])),
        draw(st.integers(0, 99)),
    )
    compare(CNNLSTM(model, 2), batch, names, draw(st.integers(1, n_patients)))


@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_same_logits_as_the_model_itself(bidirectional):
    model = CNNLSTM(Model(width=4, embedding=8, hidden=8, layers=2, bidirectional=bidirectional), 2)
    batch, names = make_batch(6, 4, 5, 16, 3)
    patients = as_patients(batch, names, np.arange(6))
    expected = model(batch.frames, batch.gaps, batch.lengths)
    seen = []
    engine = PrivateGradients(model, 1.0)
    engine.accumulate(
        patients, lambda logits, labels: (seen.append(logits.detach()), loss_of(logits, labels))[1]
    )
    assert torch.allclose(seen[0], expected, atol=1e-5)
    keys = list(model.state_dict())
    engine.detach()
    assert torch.equal(model(batch.frames, batch.gaps, batch.lengths), expected)
    assert keys == list(
        CNNLSTM(Model(width=4, embedding=8, hidden=8, layers=2, bidirectional=bidirectional), 2).state_dict()
    )


def test_a_frozen_encoder_gets_no_gradient_and_changes_no_norm():
    model = CNNLSTM(Model(width=4, embedding=8, hidden=8), 2)
    model.encoder.requires_grad_(False)
    batch, names = make_batch(5, 4, 3, 16, 1)
    compare(model, batch, names, 2)


@pytest.mark.parametrize("encoder", ["resnet18", "efficientnet_b0"])
@pytest.mark.parametrize("chunk", [2, 4])
def test_the_large_encoders_are_exact_too(encoder, chunk):
    torch.manual_seed(0)
    model = CNNLSTM(Model(encoder=encoder, embedding=16, hidden=8, bidirectional=True), 2)
    batch, names = make_batch(6, 4, 3, 32, 2)
    compare(model, batch, names, chunk)


def test_layers_with_many_weights_and_few_pixels_take_the_gram_way():
    """A last layer of 3 x 3 pixels and 128 x 256 x 9 weights."""
    model = CNNLSTM(Model(width=64, embedding=8, hidden=8), 2)
    batch, names = make_batch(4, 3, 2, 16, 5)
    spots = 2 * 2 * 2
    assert 2 * spots**2 < model.encoder.features[6].weight.numel()
    compare(model, batch, names, 3)


def test_what_cannot_be_exact_is_refused_by_name():
    def model():
        return CNNLSTM(Model(width=4, embedding=8, hidden=8), 2)

    batchnorm = model()
    batchnorm.encoder.features[1] = nn.BatchNorm2d(4)
    with pytest.raises(ConfigError, match=r"encoder.features.1: BatchNorm2d mixes patients"):
        PrivateGradients(batchnorm, 1.0)
    prelu = model()
    prelu.encoder.features[2] = nn.PReLU()
    with pytest.raises(
        ConfigError, match=r"encoder.features.2: no exact per-patient gradient is known for PReLU"
    ):
        PrivateGradients(prelu, 1.0)
    tied = model()
    tied.head[0].bias = tied.head[1].bias
    with pytest.raises(ConfigError, match="cannot use a parameter twice"):
        PrivateGradients(tied, 1.0)
    twice = model()
    twice.head = nn.Sequential(*twice.head, nn.Linear(2, 2))
    again = twice.head[4]
    twice.head.append(again)
    batch, names = make_batch(3, 3, 2, 16, 1)
    with pytest.raises((ConfigError, RuntimeError), match=r"used 2 times|twice"):
        PrivateGradients(twice, 1.0).accumulate(as_patients(batch, names, np.arange(3)), loss_of)
