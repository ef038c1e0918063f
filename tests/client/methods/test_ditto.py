import numpy as np

from client.methods.memory import SiteMemory
from common import wire
from common.models import build_model
from tests.helpers.site_rounds import PLAIN, plan_of, work


def test_ditto_trains_a_model_of_its_own_near_the_global_one(cohort, tmp_path):
    longer = PLAIN.model_copy(update={"epochs": 4, "clip_norm": 1.0})
    update = work(plan_of("FedAvg", training=longer), cohort, SiteMemory(None))[1]
    start = wire.get_weights(build_model(plan_of("FedAvg")))
    distances = []
    for strength in (0.0, 1.0, 20.0):
        plan = plan_of("Ditto", {"lambda_": strength}, longer)
        memory = SiteMemory(tmp_path / str(strength))
        found = work(plan, cohort, memory)[1]
        assert all(np.array_equal(found[n], update[n]) for n in update)  # the global part is FedAvg's
        own = memory.before(2)
        distances.append(wire.l2_norm({n: own[n] - start[n] for n in own}))
    assert distances[0] > distances[1] > distances[2] > 0
    assert distances[2] < 0.5 * distances[0]
