"""What a site does with patients under privacy: it is in the site's ledger before the first step, and within
the site's budget."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
from flwr.app import RecordDict
from numpy.typing import NDArray

from client.governance.accounting import RoundCost
from client.governance.ledger import Ledger, Purpose
from client.methods.task import difference
from client.site import Site
from client.training.evaluate import predict_always
from client.training.local import Trained
from client.training.private.counts import noisy_counts
from common import soft_counts, wire
from common.errors import DataError


def train_privately(site: Site, content: RecordDict, start: wire.Weights) -> tuple[Trained, wire.Weights]:
    """A private round from the global weights `start`, and the update that leaves."""
    # Opacus takes seconds: only where it is needed.
    from client.training.private.round import train_private_round

    plan, number = site.plan, wire.get_round(content)
    indices = site.cohort.split(plan.split)["train"]
    cost = RoundCost.of(plan, site.cohort.count_patients(indices))
    with _paid(site, content, indices, cost):
        wire.set_weights(site.model, start)
        done = train_private_round(site.model, site.cohort, indices, plan, cost, number, device=site.device)
    untimed = replace(done, seconds=float("nan"))  # they would tell of the patients, without noise
    return untimed, difference(wire.get_weights(site.model), start)


def judge_privately(site: Site, content: RecordDict, indices: NDArray[np.intp]) -> dict[str, float]:
    """The noisy counts of the patients of these sequences, by the weights that are loaded."""
    plan, cohort = site.plan, site.cohort
    cost = RoundCost.of_scores(plan, cohort.count_patients(indices))
    with _paid(site, content, indices, cost):
        probabilities = predict_always(site.model, cohort, indices, site.device)
        exact = soft_counts.count(probabilities, cohort.labels[indices], cohort.patients[indices])
        return noisy_counts(exact, plan.findings, cost.noise)


@contextmanager
def _paid(site: Site, content: RecordDict, indices: NDArray[np.intp], cost: RoundCost) -> Iterator[None]:
    """What is done with the patients of these sequences, in the ledger: reserved before, and settled if it
    ended."""
    if site.config.ledger is None:
        raise DataError("the plan has privacy, and the node configuration names no ledger")
    ledger = Ledger(site.config.ledger)
    patients = sorted(set(site.cohort.patients[indices].tolist()))
    purpose = Purpose(site.plan.sha256, wire.get_text(content, wire.RUN), wire.get_round(content))
    reservation = ledger.reserve(patients, purpose, cost.history, site.config.budget)
    yield
    ledger.settle(reservation, cost.steps)
