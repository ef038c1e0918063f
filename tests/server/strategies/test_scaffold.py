import numpy as np
import pytest

from common import wire
from common.models import build_model
from common.plan import Federation, Strategy, Training
from server.observer import Silent
from server.rounds import RoundLoop
from tests.helpers.grids import ScriptedGrid, reply
from tests.helpers.plans import small_plan

PLAIN = Training(momentum=0.0)


PLAN = small_plan(
    rounds=1,
    training=PLAIN,
    strategy=Strategy(name="SCAFFOLD"),
    federation=Federation(quorum=0.3, deadline_s=1.0),
)


SCHEMA = wire.Schema.exchanged(PLAN, build_model(PLAN))


def change(node):
    rng = np.random.default_rng(node)
    return {name: rng.normal(0, 0.1, shape).astype(np.float32) for name, shape in SCHEMA.shapes.items()}


def start():
    rng = np.random.default_rng(99)
    return {name: rng.normal(0, 0.1, shape).astype(np.float32) for name, shape in SCHEMA.shapes.items()}


@pytest.mark.slow
@pytest.mark.parametrize("silent", [(), (2, 5)])
def test_scaffold_moves_its_control_in_proportion_to_who_answered(tmp_path, silent):
    grid = ScriptedGrid(lambda node, message: reply(message, change(node)), silent=silent)
    found = RoundLoop(grid, PLAN, SCHEMA, tmp_path, Silent()).run(start()).weights
    answered = [node for node in range(1, 6) if node not in silent]
    weight = {node: 10 * node for node in answered}
    total = sum(weight.values())
    for name, before in start().items():
        mean = sum(weight[n] * change(n)[name].astype(np.float64) for n in answered) / total
        step = mean * (total / 150 if name.startswith("control/") else 1.0)
        np.testing.assert_allclose(found[name], before + step, rtol=1e-5, atol=1e-6)
