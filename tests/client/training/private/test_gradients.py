"""The engine against an obviously correct slow twin: one patient after another through ordinary autograd."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from client.training.private.gradients import PrivateGradients
from common.errors import ConfigError
from common.models.cnn_lstm import CNNLSTM
from common.plan import Model
from tests.helpers.private import as_patients, compare, loss_of, make_batch, patients_on


@pytest.mark.slow
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


def test_a_frozen_encoder_gets_no_gradient_and_changes_no_norm():
    model = CNNLSTM(Model(width=4, embedding=8, hidden=8), 2)
    model.encoder.requires_grad_(False)
    batch, names = make_batch(5, 4, 3, 16, 1)
    compare(model, batch, names, 2)


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


def test_a_pass_asks_nothing_of_the_device():
    """On a `meta` device there is nothing to ask: whatever would make a host wait for a GPU raises."""
    model = CNNLSTM(Model(width=4, embedding=8, hidden=8, bidirectional=True), 2).to("meta")
    batch, names = make_batch(5, 4, 3, 16, 1)
    there = patients_on(as_patients(batch, names, np.arange(5)), "meta")
    assert PrivateGradients(model, 1.0).accumulate(there, loss_of).is_meta
    assert all(p.grad.is_meta for p in model.parameters())
