"""A handed-over model, loaded to be used: with the tensors that a site keeps of its own, if it took part."""

from pathlib import Path

import torch

from client.methods import personal_weights
from client.methods.memory import SiteMemory
from client.settings import SiteFolder
from common import wire
from common.errors import ConfigError, WireError
from common.handover import Handed
from common.models import CNNLSTM, build_model


def load_model(handed: Handed, device: torch.device, site: SiteFolder | None = None) -> CNNLSTM:
    """The model, with the tensors that `site` keeps of its own under the run's method, if it took part in it.

    Raises:
        ConfigError: the tensors are not those of the plan's model.
    """
    model = build_model(handed.plan)
    weights = _require_fit(handed.folder, handed.weights, model)
    if site is not None and handed.run:
        memory = SiteMemory(site.memory(handed.plan.sha256) / handed.run)
        weights = {**weights, **personal_weights(handed.plan, model, memory, handed.plan.rounds + 1)}
    wire.set_weights(model, weights)
    return model.to(device).eval()


def _require_fit(folder: Path, weights: wire.Weights, model: CNNLSTM) -> wire.Weights:
    try:
        return wire.Schema.of(model).check(weights)
    except WireError as e:
        raise ConfigError(f"{folder}: the weights are not those of the plan's model: {e}") from None
