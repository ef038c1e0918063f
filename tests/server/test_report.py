"""`server report`: the page of a finished run, or one line that says why there is none."""

import json

import pytest

from common.results.final import FinalReport, write_final
from common.results.rounds import RoundReport, write_history
from common.results.run import write_result
from server.checkpoint import Checkpoint
from server.outcome import outcome
from server.settings import ServerFolder
from tests.helpers.command import refused
from tests.helpers.plans import small_plan
from tests.helpers.results import final_answer
from tests.helpers.runs import deployed_run

PLAN = small_plan(evaluation={"final": True})
HISTORY = [RoundReport(round=1, bytes_down=10, bytes_up=20, sites={}, failed={}, seconds=2.0)]


@pytest.fixture
def server(here, tmp_path):
    assert here("server", "init", "server", "--host", "localhost").returncode == 0
    return ServerFolder(tmp_path / "server")


def finished(server, final):
    folder = deployed_run(server.runs / "first", PLAN)
    write_history(folder, HISTORY)
    write_final(folder, final)
    if final.sites:
        write_result(folder, outcome(PLAN, final, Checkpoint(1, {}, history=HISTORY), None))
    return folder


@pytest.mark.slow
def test_the_page_says_what_each_hospital_told(here, server):
    told = {"north": final_answer(0.91), "south": final_answer(0.83, seed=1)}
    folder = finished(server, FinalReport(sites=told, silent={"west": "its policy keeps them"}))
    said = here("server", "report", "first", "--dir", "server")
    assert said.returncode == 0, said.stderr
    assert "0.910" in next(line for line in said.stdout.splitlines() if "north" in line)
    page = (folder / "report.html").read_text()
    for text in ("0.910", "0.830", "west (its policy keeps them)", "Each hospital computed its own numbers"):
        assert text in page
    result = json.loads(here("server", "report", "first", "--dir", "server", "--json").stdout)
    assert result["sites"]["north"]["federated"]["auroc"] == 0.91
    assert result["silent"] == {"west": "its policy keeps them"}


def test_without_scores_it_says_why(here, server):
    refused(here("server", "report", "first", "--dir", "server"), "no finished run with final scores")
    refused(here("server", "report", "../first", "--dir", "server"), "no finished run with final scores")
    finished(server, FinalReport(sites={}, silent={"west": "its policy keeps them"}))
    refused(
        here("server", "report", "first", "--dir", "server"),
        "no hospital told final scores: west: its policy keeps",
    )
