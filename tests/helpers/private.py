"""The private engine, its slow twin, and batches for both."""

import copy

import numpy as np
import torch
from torch import nn

from client.compute.batches import Batch
from client.training.private.gradients import PrivateGradients
from client.training.private.patients import Patients, number_patients
from common.plan import Privacy, Training
from tests.helpers.plans import small_plan


def private_plan(**privacy):
    values = {"noise_multiplier": 1.0, "delta": 1e-3, "steps": 3, **privacy}
    return small_plan(
        privacy=Privacy(**values),
        training=Training(batch_size=8, learning_rate=0.05, momentum=0.0, weight_decay=0.0),
    )


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


def patients_on(patients, device):
    """Grey values and labels on a device; lengths and owners stay in the host's memory."""
    batch = patients.batch
    there = Batch(batch.frames.to(device), batch.gaps.to(device), batch.lengths, batch.labels.to(device))
    return Patients(there, patients.owner, patients.count)


def doubled(batch):
    """In double precision."""
    return Batch(batch.frames.double(), batch.gaps.double(), batch.lengths, batch.labels.double())


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
