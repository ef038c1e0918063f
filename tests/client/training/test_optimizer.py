import subprocess
import sys

import pytest
import torch

from client.training.optimizer import Optimizer
from common.plan import Training

REFERENCES = {
    "sgd": lambda p, t: torch.optim.SGD(p, lr=0.1, momentum=t.momentum, weight_decay=t.weight_decay),
    "adam": lambda p, t: torch.optim.Adam(p, lr=0.1, weight_decay=t.weight_decay),
    "adamw": lambda p, t: torch.optim.AdamW(p, lr=0.1, weight_decay=t.weight_decay),
}


def parameters():
    g = torch.Generator().manual_seed(0)
    return [torch.randn(4, 3, generator=g).requires_grad_(), torch.randn(5, generator=g).requires_grad_()]


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("clip", [None, 0.5])
def test_steps_equal_torch_s(name, clip):
    training = Training(optimizer=name, momentum=0.8, weight_decay=0.01, clip_norm=clip)
    ours, theirs = parameters(), parameters()
    optimizer, reference = Optimizer(ours, training), REFERENCES[name](theirs, training)
    for step in range(5):
        for params in (ours, theirs):
            for p in params:
                p.grad = None
            sum(((p * (step + 1)).sin() ** 2).sum() for p in params).backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(theirs, clip)
        rate = 0.1 / (step + 1)
        reference.param_groups[0]["lr"] = rate
        reference.step()
        optimizer.step(rate)
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


@pytest.mark.slow
def test_training_does_not_load_torch_s_compiler():
    # The reason for not using torch.optim's classes: three seconds in each process.
    code = """
import sys, torch
from client.training.optimizer import Optimizer
from common.plan import Training
p = torch.ones(3, requires_grad=True)
p.sum().backward()
Optimizer([p], Training()).step(0.1)
sys.exit("torch._dynamo" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0
