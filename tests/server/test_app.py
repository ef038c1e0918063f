"""The ServerApp: from a run's configuration to a checkpoint."""

import numpy as np
import pytest
from flwr.app import Context, RecordDict

from common import wire
from common.config import dump_yaml
from common.errors import ConfigError
from common.models import build_model
from common.plan import Strategy, Training
from server.app import build_app
from server.checkpoint import load_checkpoint
from server.observer import Silent
from tests.helpers.grids import ScriptedGrid, reply
from tests.helpers.plans import small_plan


def run(plan, folder, **config):
    (folder / "plan.yaml").write_text(dump_yaml(plan))
    schema = wire.Schema.exchanged(plan, build_model(plan))

    def script(node, message):
        return reply(message, {name: np.zeros(shape, np.float32) for name, shape in schema.shapes.items()})

    settings = {"plan": str(folder / "plan.yaml"), "out": str(folder / "run"), **config}
    build_app(Silent())(ScriptedGrid(script), Context(1, 1, {}, RecordDict(), settings))
    return load_checkpoint(folder / "run", plan.sha256)


def test_a_run_starts_from_the_plan_s_own_weights_and_keeps_its_rounds(tmp_path):
    plan = small_plan()
    checkpoint = run(plan, tmp_path)
    assert [report.round for report in checkpoint.history] == [1, 2]
    start = wire.get_weights(build_model(plan))
    assert all(np.array_equal(checkpoint.weights[n], start[n]) for n in start)  # the sites sent zeros


def test_what_a_method_sends_beside_the_weights_starts_at_zero(tmp_path):
    plan = small_plan(strategy=Strategy(name="SCAFFOLD"), training=Training(momentum=0.0))
    control = wire.control_part(run(plan, tmp_path).weights)
    assert control.keys() == wire.get_weights(build_model(plan)).keys()
    assert not any(c.any() for c in control.values())


def test_a_pretrained_file_that_the_plan_does_not_name_is_refused(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"x")
    with pytest.raises(ConfigError):
        run(small_plan(), tmp_path, pretrained=str(tmp_path / "w.safetensors"))
