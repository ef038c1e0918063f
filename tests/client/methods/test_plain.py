import numpy as np

from client.methods.memory import SiteMemory
from client.training.local import train_round
from common import wire
from common.models import build_model
from tests.helpers.cohorts import CPU
from tests.helpers.site_rounds import plan_of, work


def test_fedavg_is_plain_training(cohort, tmp_path):
    plan = plan_of("FedAvg")
    model = build_model(plan)
    start = wire.get_weights(model)
    train_round(model, cohort, plan, "here", 1, CPU)
    _, update, _ = work(plan, cohort, SiteMemory(None))
    for name, local in wire.get_weights(model).items():
        np.testing.assert_array_equal(update[name], local - start[name])
