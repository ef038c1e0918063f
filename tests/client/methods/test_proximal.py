"""FedProx at the site: a pull toward the global weights."""

from client.methods.memory import SiteMemory
from common import wire
from tests.helpers.site_rounds import plan_of, work


def test_fedprox_stays_closer_to_the_global_weights(cohort):
    moved = []
    for mu in (0.0, 5.0):
        _, update, _ = work(plan_of("FedProx", {"proximal_mu": mu}), cohort, SiteMemory(None))
        moved.append(wire.l2_norm(update))
    assert moved[1] < 0.9 * moved[0]
