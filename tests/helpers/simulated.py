"""Whole runs in this process."""

from common.plan import Strategy, Training
from server.observer import Silent
from simulation import runs
from simulation.scenario import Machine, PhantomData
from simulation.simulate import simulate
from tests.helpers.plans import small_scenario

PLAIN = Training(batch_size=4, learning_rate=0.1, momentum=0.0)


def scenario_of(name, **changes):
    engine = changes.pop("simulation", Machine(threads=1, arms=()))
    values = {"rounds": 3, "training": PLAIN, "data": PhantomData(sites=2, patients=20), **changes}
    return small_scenario(strategy=Strategy(name=name), simulation=engine, **values)


def run(scenario, out, watch=None):
    if not (out / runs.SCENARIO).exists():
        out.mkdir(exist_ok=True)
        runs.start(out, scenario)
    return simulate(scenario, out, lambda arm: watch or Silent())
