import json

import pytest

from common import wire
from common.results.survey import Survey, write_survey
from server.settings import ServerFolder
from server.survey import table
from tests.helpers.surveys import TOLD


def test_what_nobody_tells_is_said_to_be_withheld():
    lines = table(Survey.of({"south": TOLD["south"]}, ("pneumonia",)))
    assert lines[1].split() == ["training", "20", "1"]
    assert [line.split()[-2] for line in lines if line.startswith("training, 9+ images")] == ["withheld"]
    assert any(line.split() == ["positive:", "pneumonia", "20", "1"] for line in lines)


def test_the_command_shows_a_run_s_and_refuses_others(here, tmp_path):
    assert here("server", "init", "server", "--host", "localhost").returncode == 0
    folder = ServerFolder(tmp_path / "server")
    (folder.runs / "first").mkdir(parents=True)
    write_survey(folder.runs / "first", Survey.of(TOLD, ("pneumonia",)))
    said = here("server", "survey", "first", "--dir", "server")
    assert said.returncode == 0, said.stderr
    assert "training                            60  3" in said.stdout
    assert (
        json.loads(here("server", "survey", "first", "--dir", "server", "--json").stdout)["sites"]["south"][
            "n-test"
        ]
        is None
    )
    for run in ("second", "../first"):
        done = here("server", "survey", run, "--dir", "server")
        assert done.returncode == 2
        assert "no site of such a run has answered yet" in done.stderr


@pytest.mark.parametrize("findings", [("pneumonia",), ("pneumonia", "effusion")])
def test_every_number_has_one_meaning(findings):
    names = wire.query_numbers(findings)
    assert len(set(names)) == len(names)
