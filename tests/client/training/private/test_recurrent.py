import numpy as np
import pytest
import torch

from client.training.private.gradients import PrivateGradients
from common.models.cnn_lstm import CNNLSTM
from common.plan import Model
from tests.helpers.private import as_patients, loss_of, make_batch


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
