"""A run's result: written and read whole, and what was not compared is no key of it."""

import json
import math
from dataclasses import replace

import pytest

from common.errors import RunError
from common.results.run import FILE, read_result, write_result
from tests.helpers.results import run_result


def test_a_result_comes_back_whole(tmp_path):
    result = run_result({"north": 0.8, "south": 0.7})
    write_result(tmp_path, result)
    assert read_result(tmp_path) == result
    tree = json.loads((tmp_path / FILE).read_text())
    assert tree["format"] == "pneumofed-result-1"
    assert "local_only" not in tree["test"]  # no such arm
    assert tree["sites"]["north"]["local_only"]["auroc"] == pytest.approx(0.75)


def test_the_temperature_is_that_of_the_federated_model_or_unknown():
    assert math.isnan(run_result({"north": 0.8}, temperature=None).temperature)
    assert run_result({"north": 0.8}, temperature=1.7).temperature == 1.7


def test_no_result_and_one_of_another_version_say_what_to_do(tmp_path):
    with pytest.raises(RunError, match=r"metrics.json: cannot be read.*run it again in another folder"):
        read_result(tmp_path)
    write_result(tmp_path, run_result({"north": 0.8}))
    tree = json.loads((tmp_path / FILE).read_text())
    (tmp_path / FILE).write_text(json.dumps({**tree, "format": "pneumofed-result-9"}))
    with pytest.raises(RunError, match="of another version of pneumofed; run it again"):
        read_result(tmp_path)


def test_an_epsilon_without_a_bound_is_not_known(tmp_path):
    """null was written and nothing read back."""
    write_result(tmp_path, replace(run_result({"north": 0.8}), epsilon=math.inf))
    assert "epsilon" not in json.loads((tmp_path / FILE).read_text())
    assert read_result(tmp_path).epsilon is None
