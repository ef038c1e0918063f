"""Membership inference against the finished model: does it fit patients it was trained on better than others?

The attack by loss (Yeom et al., 2018, "Privacy Risk in Machine Learning"): training patients against test
patients.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from client.imaging.cohort import Cohort
from client.training.evaluate import predict
from common import metrics, wire
from common.models import build_model
from common.plan import Plan
from common.results.attacks import Membership

RESAMPLES = 1000


def infer_membership(plan: Plan, cohort: Cohort, weights: wire.Weights, device: torch.device) -> Membership:
    """Attack `weights` with the site's own patients."""
    model = build_model(plan).to(device)
    wire.set_weights(model, weights)
    split = cohort.split(plan.split)
    members, others = (_score_patients(model, cohort, split[part], device) for part in ("train", "test"))
    scores = np.concatenate([members, others])
    labels = np.concatenate([np.ones_like(members), np.zeros_like(others)])
    draws = metrics.resample_patients(np.arange(len(scores)), RESAMPLES, np.random.default_rng(0))
    auroc = metrics.macro_estimate(metrics.auroc, scores[:, None], labels[:, None], draws)
    share = metrics.evaluate(metrics.sensitivity_at(0.99), scores, labels)
    return Membership(n_members=len(members), n_others=len(others), auroc=auroc, found_at_1_percent=share)


def _score_patients(
    model: torch.nn.Module, cohort: Cohort, indices: NDArray[np.intp], device: torch.device
) -> NDArray[np.float64]:
    """Minus the mean loss of each patient's known labels."""
    probabilities, labels = predict(model, cohort, indices, device).astype(np.float64), cohort.labels[indices]
    right = np.where(labels == 1.0, probabilities, 1.0 - probabilities)
    scores = np.nanmean(np.where(np.isnan(labels), np.nan, np.log(right.clip(1e-12))), axis=1)
    return np.array(
        [scores[cohort.patients[indices] == p].mean() for p in np.unique(cohort.patients[indices])]
    )
