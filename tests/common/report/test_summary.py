"""What the commands say of a run at its end: every number that is known, n/a for the others, and where the
report is."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from common.report.summary import print_run
from tests.helpers.results import run_result


@pytest.fixture
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")


def test_a_run_s_hospitals_and_numbers_are_said(capsys, wide):
    result = replace(run_result({"north": 0.81, "south": math.nan}), skipped={"not_dicom": 3})
    print_run(result, Path("runs/x"))
    said = capsys.readouterr().out
    north = next(line for line in said.splitlines() if "north" in line)
    assert "0.810 (0.710–0.910)" in north
    assert "+0.05" in north
    assert "n/a" in next(line for line in said.splitlines() if "south" in line)
    assert "federated, all hospitals: 0.800" in said
    assert "left out: not dicom 3" in said
    assert "report: runs/x/report.html" in said
    assert "centralised:" not in said  # no such arm


def test_who_told_nothing_is_named_with_the_reason(capsys, wide):
    result = replace(run_result({"north": 0.8}), silent={"west": "its [policy]"}, not_crossed={"north": "no"})
    print_run(result, Path("runs/x"))
    said = capsys.readouterr().out
    assert "west told no final scores: its [policy]" in said
    assert "north took no part in judging others' models: no" in said


def test_eighty_columns_are_enough(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    print_run(run_result({"hospital-a": 0.81, "hospital-b": 0.7}), Path("runs/x"))
    lines = capsys.readouterr().out.splitlines()
    row = next(line for line in lines if "hospital-a" in line)
    for text in ("20", "0.760 (0.660–0.860)", "0.810 (0.710–0.910)", "+0.05 (+0.00..+0.10)"):
        assert text in row
