"""Probabilities for a cohort's sequences, and what they are worth."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from client.compute.batches import in_batches
from client.compute.forward import logits_of, numbers_of
from client.imaging.cohort import Cohort
from common import calibration, metrics, wire
from common.plan import Plan
from common.scores import Predictions
from common.seeds import numpy_generator


def predict_logits(
    model: nn.Module, cohort: Cohort, indices: NDArray[np.intp], device: torch.device
) -> NDArray[np.float32]:
    """Logits (len(indices), K) float32, in the order of `indices`. Raises as `numbers_of`."""
    return numbers_of(_logits(model, cohort, indices, device))


def predict_always(
    model: nn.Module, cohort: Cohort, indices: NDArray[np.intp], device: torch.device
) -> NDArray[np.float32]:
    """As `predict`, with 0.5 for what is no number: for private plans. Weights may be so large that some
    images overflow and others do not, and that there is no answer would tell of them without noise."""
    return sigmoid(np.nan_to_num(_logits(model, cohort, indices, device).numpy()))


@torch.inference_mode()
def _logits(model: nn.Module, cohort: Cohort, indices: NDArray[np.intp], device: torch.device) -> Tensor:
    model.eval()
    batches = in_batches(cohort, indices, 64, device)
    logits = [logits_of(model, b.frames, b.gaps, b.lengths).cpu() for b in batches]
    return torch.cat(logits) if logits else torch.zeros(0, cohort.labels.shape[1])


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities of logits."""
    return torch.from_numpy(logits).sigmoid().numpy()


def predict(
    model: nn.Module, cohort: Cohort, indices: NDArray[np.intp], device: torch.device
) -> NDArray[np.float32]:
    """Probabilities (len(indices), K) float32 in [0, 1], in the order of `indices`."""
    return sigmoid(predict_logits(model, cohort, indices, device))


def predictions(
    model: nn.Module, cohort: Cohort, indices: NDArray[np.intp], device: torch.device
) -> Predictions:
    """Probabilities of some sequences, with what is true of them."""
    attributes = {name: values[indices] for name, values in cohort.attributes.items()}
    probabilities = predict(model, cohort, indices, device)
    return Predictions(probabilities, cohort.labels[indices], cohort.patients[indices], attributes)


def cross_entropy(probabilities: NDArray[np.float32], labels: NDArray[np.float32]) -> float:
    """Mean binary cross-entropy over known labels; NaN if none is known."""
    known = ~np.isnan(labels)
    if not known.any():
        return float("nan")
    p = torch.from_numpy(probabilities[known].astype(np.float64)).clamp(1e-7, 1 - 1e-7)
    return float(F.binary_cross_entropy(p, torch.from_numpy(labels[known].astype(np.float64))))


def numbers_for(
    cohort: Cohort, indices: NDArray[np.intp], logits: NDArray[np.float32], plan: Plan
) -> dict[str, float]:
    """The wire's EVALUATE_NUMBERS, each the mean over the plan's findings."""
    probabilities = sigmoid(logits)
    labels, patients = cohort.labels[indices], cohort.patients[indices]
    weights = metrics.resample_patients(
        patients, plan.evaluation.bootstrap, numpy_generator(plan.seed, "bootstrap")
    )
    auroc = metrics.macro_estimate(metrics.auroc, probabilities, labels, weights)
    brier = metrics.macro_estimate(metrics.brier, probabilities, labels, weights)
    return {
        wire.LOSS: cross_entropy(probabilities, labels),
        wire.AUROC: auroc.value,
        wire.AUROC_SE: auroc.error,
        wire.BRIER: brier.value,
        **calibration.losses(logits, labels),
    }
