"""A handed-over model, loaded to be used: with the tensors that a site keeps of its own, if it took part."""

from pathlib import Path

import torch

from client.methods import personal_weights
from client.methods.memory import SiteMemory
from client.prediction.foreign import ForeignModel
from client.settings import SiteFolder
from common import wire
from common.errors import ConfigError, WireError
from common.handover import Handed
from common.methods import Stays
from common.models import CNNLSTM, build_model


def load_model(
    handed: Handed, device: torch.device, site: SiteFolder | None = None
) -> CNNLSTM | ForeignModel:
    """The model, one that others made too, as far as it can be called; ours as `load_own` has it.

    Raises:
        ConfigError: it is not what its plan or contract says.
    """
    if handed.foreign is not None:
        return ForeignModel(handed.folder, handed.foreign)
    return load_own(handed, device, site)


def load_own(handed: Handed, device: torch.device, site: SiteFolder | None = None) -> CNNLSTM:
    """A model of ours, with the tensors that `site` keeps of its own under the run's method, if it took part
    in it.

    Raises:
        ConfigError: the tensors are not those of the plan's model, or some of them were trained at the
        hospitals alone and `site` is none of those.
    """
    if handed.foreign is not None:
        raise ConfigError(f"{handed.folder}: a model that others made can be judged and predict, and no more")
    model = build_model(handed.plan)
    weights = _require_fit(handed.folder, handed.weights, model)
    own: wire.Weights = {}
    if site is not None and handed.run:
        memory = SiteMemory(site.memory(handed.plan.sha256) / handed.run)
        own = personal_weights(handed.plan, model, memory, handed.plan.rounds + 1)
    _require_whole(handed, own)
    wire.set_weights(model, {**weights, **own})
    return model.to(device).eval()


def _require_whole(handed: Handed, own: wire.Weights) -> None:
    """What stays at the hospitals is in the global model as it was before the first round."""
    strategy = handed.plan.strategy
    if not own and strategy.method.stays in (Stays.HEAD, Stays.NORMS):
        raise ConfigError(
            f"{handed.folder}: {strategy.name} leaves {strategy.method.stays} at the hospitals, untrained "
            "elsewhere; use the model at a hospital that took part: --dir"
        )


def _require_fit(folder: Path, weights: wire.Weights, model: CNNLSTM) -> wire.Weights:
    try:
        return wire.Schema.of(model).check(weights)
    except WireError as e:
        raise ConfigError(f"{folder}: the weights are not those of the plan's model: {e}") from None
