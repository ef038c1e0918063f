"""Tensors that stay at the site, over restarts."""

import numpy as np
import pytest

from client.methods import personal_weights
from client.methods.memory import SiteMemory
from client.training.local import train_round
from common import wire
from common.models import build_model
from common.models.personal import personal_names
from tests.helpers.cohorts import CPU
from tests.helpers.site_rounds import plan_of, work


@pytest.mark.parametrize("name", ["FedBN", "FedPer"])
def test_what_stays_does_not_leave_and_is_there_after_a_restart(cohort, tmp_path, name):
    plan = plan_of(name)
    own = personal_names(plan, build_model(plan))
    assert own == {
        n
        for n in wire.get_weights(build_model(plan))
        if (n.startswith("head.") if name == "FedPer" else _is_norm(n))
    }
    _, update, model = work(plan, cohort, SiteMemory(tmp_path))
    assert all(not update[n].any() for n in own)
    assert all(update[n].any() for n in update.keys() - own)
    kept = personal_weights(plan, model, SiteMemory(tmp_path), 2)  # a new object: what a restart has
    assert kept.keys() == own
    assert all(np.array_equal(kept[n], wire.get_weights(model)[n]) for n in own)
    start = wire.get_weights(build_model(plan))
    again = build_model(plan)
    wire.set_weights(again, {**start, **kept})
    train_round(again, cohort, plan, "here", 2, CPU)
    _, second, _ = work(plan, cohort, SiteMemory(tmp_path), 2)
    trained = wire.get_weights(again)
    assert all(np.array_equal(second[n], trained[n] - start[n]) for n in second.keys() - own)


def _is_norm(name):
    return any(part in name for part in ("features.1.", "features.4.", "features.7.", "head.1."))
