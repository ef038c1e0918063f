"""One site's part of one round under each federated method: what it trains, what leaves as the update, and
what it keeps.

Plain training is the whole of FedAvg's part. The others add to it:

- SCAFFOLD (Karimireddy et al., 2020): each step is corrected by c - c_i; the control variate becomes, by
  their option II, c_i+ = c_i - c + (x - y) / (K η), where K η is the sum of the steps' rates.
- FedBN (Li et al., 2021), FedPer (Arivazhagan et al., 2019): some tensors stay at the site; the update holds
  zeros for them.
- Ditto (Li et al., 2021): beside the global model the site trains one of its own, pulled toward the global
  weights.
"""

import numpy as np
import torch

from client.imaging.cohort import Cohort
from client.training.local import Pull, Trained, train_round
from client.training.memory import SiteMemory
from common import wire
from common.models import CNNLSTM
from common.models.personal import personal_names
from common.plan import Plan

DITTO_STRENGTH = 0.1
"""Ditto's λ where the plan does not say another (`strategy.options.lambda_`)."""


def train_site(
    model: CNNLSTM,
    cohort: Cohort,
    plan: Plan,
    site: str,
    round: int,
    device: torch.device,
    start: wire.Weights,
    memory: SiteMemory,
) -> tuple[Trained, wire.Weights]:
    """Train from the global weights `start`; returns what was done, and the update that leaves."""
    name = plan.strategy.name
    if name == "SCAFFOLD":
        return _scaffold(model, cohort, plan, site, round, device, start, memory)
    own = (
        personal_names(plan, model) if name != "Ditto" else frozenset()
    )  # Ditto's own model is one beside the global
    wire.set_weights(model, {**start, **(memory.before(round) if own else {})})
    done = train_round(model, cohort, plan, site, round, device)
    local = wire.get_weights(model)
    if own:
        memory.keep(round, {name: local[name] for name in sorted(own)})
    if name == "Ditto":
        _train_own(model, cohort, plan, site, round, device, start, memory)
    return done, {name: np.zeros_like(w) if name in own else w - start[name] for name, w in local.items()}


def personal_weights(plan: Plan, model: CNNLSTM, memory: SiteMemory, round: int) -> wire.Weights:
    """The tensors that this site uses in place of the global ones in `round`; empty if the method has none,
    or before its first."""
    return memory.before(round) if personal_names(plan, model) else {}


def _train_own(
    model: CNNLSTM,
    cohort: Cohort,
    plan: Plan,
    site: str,
    round: int,
    device: torch.device,
    start: wire.Weights,
    memory: SiteMemory,
) -> None:
    """Ditto's second half: the site's own model, from where it was, pulled toward the global weights of this
    round."""
    wire.set_weights(model, start)
    anchor = [p.detach().clone() for p in model.parameters() if p.requires_grad]
    wire.set_weights(model, memory.before(round) or start)
    strength = float(plan.strategy.options.get("lambda_", DITTO_STRENGTH))
    train_round(model, cohort, plan, f"{site}, own", round, device, Pull(anchor, strength))
    memory.keep(round, wire.get_weights(model))


def _scaffold(
    model: CNNLSTM,
    cohort: Cohort,
    plan: Plan,
    site: str,
    round: int,
    device: torch.device,
    start: wire.Weights,
    memory: SiteMemory,
) -> tuple[Trained, wire.Weights]:
    weights, control = wire.model_part(start), wire.control_part(start)
    own = memory.before(round) or {name: np.zeros_like(c) for name, c in control.items()}
    wire.set_weights(model, weights)
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    correction = [torch.from_numpy(control[name] - own[name]).to(device) for name in names]
    done = train_round(model, cohort, plan, site, round, device, Pull(correction=correction))
    local = wire.get_weights(model)
    ours = dict(own)
    for name in names:
        ours[name] = own[name] - control[name] + (weights[name] - local[name]) / np.float32(done.rates)
    memory.keep(round, ours)
    update = {name: local[name] - weights[name] for name in local}
    return done, update | {f"{wire.CONTROL}{name}": ours[name] - own[name] for name in ours}
