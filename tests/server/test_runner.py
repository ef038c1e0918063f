"""What a site is told of the queue. Runs themselves: tests/deployment/test_queue.py."""

import pytest

from common.config import dump_yaml
from common.errors import ConfigError
from common.monitoring import Monitoring
from common.plan import Evaluation
from common.results.rounds import RoundReport
from common.results.status import RunRecord
from common.waiting import MOST
from server import runner as module
from server.runner import Runner, Wish
from tests.helpers.plans import small_plan


def test_a_site_is_told_of_its_own_runs_however_many_of_others_begin_before(place):
    server, service, _ = place
    runner = Runner(server, service, Monitoring("test", None, None))
    for k in range(MOST + 6):
        folder = server.runs / f"run-{k}"
        folder.mkdir(parents=True)
        (folder / "plan.yaml").write_text(dump_yaml(small_plan(name=f"run-{k}")))
        without = ("north",) if k < MOST + 3 else ()
        runner._runs.queue(
            folder.name, RunRecord(run=f"r{k}", min_sites=1, started="", without=without), ahead=False
        )
    (server.runs / f"run-{MOST + 4}" / "plan.yaml").write_text("rubbish")  # said when its turn comes
    assert [one.run for one in runner.waiting("north")] == [f"r{MOST + 3}", f"r{MOST + 5}"]
    told = runner.waiting("south")
    assert [one.run for one in told] == [f"r{k}" for k in range(MOST)]
    assert told[0].sha256 == small_plan(name="run-0").sha256
    assert told[0].plan == small_plan(name="run-0").canonical


def test_the_round_is_told_while_the_run_goes_on_and_of_a_resumed_one_its_own(place, monkeypatch):
    server, service, _ = place
    monitoring, told = Monitoring("test", None, None), []

    def played(folder, _server, _grid, _deployment, watch):
        for number in range(len(told) + 1, len(told) + 3):
            watch.finished_round(RoundReport(round=number, bytes_down=0, bytes_up=0, sites={}, failed={}))
            told.append(monitoring.registry.get_sample_value("pneumofed_round", {"run": folder.name}))

    monkeypatch.setattr(module, "federate", played)
    runner, plan = Runner(server, service, monitoring), small_plan()
    for _ in range(2):
        folder = server.runs / plan.name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "plan.yaml").write_text(dump_yaml(plan))
        runner._launch(folder.name, plan, RunRecord(run="r", min_sites=1, started="", state="running"))
        runner._thread.join()
    assert told == [1.0, 2.0, 3.0, 4.0]


def test_a_plan_whose_rule_is_gone_is_not_queued_nor_gone_on_with(place):
    server, service, _ = place
    runner = Runner(server, service, Monitoring("test", None, None))
    plan = small_plan(evaluation=Evaluation(threshold="accuracy"))
    with pytest.raises(ConfigError, match="accuracy is gone"):
        runner.start(plan, Wish(sites=1))
    assert not (server.runs / plan.name).exists()
    (server.runs / plan.name).mkdir(parents=True)
    (server.runs / plan.name / "plan.yaml").write_text(dump_yaml(plan))
    runner._runs.write(plan.name, RunRecord(run="r", min_sites=1, started="", state="stopped"))
    with pytest.raises(ConfigError, match="accuracy is gone"):
        runner.resume(plan.name, Wish(sites=1))
