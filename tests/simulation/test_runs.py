"""A run's folder: one run in it, by one process, and resumed only as what it was started as."""

import os

import pytest

from common.errors import RunError
from simulation import runs
from simulation.scenario import PhantomData
from tests.helpers.plans import small_scenario


@pytest.fixture
def out(tmp_path):
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def finish(out):
    (out / runs.RESULT).write_text("{}")


def begin(out):
    (out / "arms" / "federated").mkdir(parents=True)
    (out / "arms" / "federated" / "checkpoint.safetensors").touch()


def test_a_start_that_was_refused_before_it_trained_leaves_its_folder_to_the_next(out):
    runs.start(out, small_scenario(seed=1))
    (out / "dicom" / "hospital-a").mkdir(parents=True)  # of another seed
    (out / "arms" / "federated").mkdir(parents=True)
    runs.start(out, small_scenario(seed=2))
    assert runs.resume(out, None).seed == 2
    assert not (out / "dicom").exists()
    begin(out)
    with pytest.raises(RunError, match="already holds an unfinished run"):
        runs.start(out, small_scenario(seed=3))


def test_a_run_is_resumed_as_what_it_was_started_as(out):
    scenario = small_scenario()
    runs.start(out, scenario)
    assert runs.resume(out, None) == scenario
    assert runs.resume(out, small_scenario()) == scenario
    with pytest.raises(
        RunError, match="was started with another plan than the one given; leave the plan out"
    ):
        runs.resume(out, small_scenario(rounds=9))
    runs.start_or_resume(out, scenario)
    with pytest.raises(RunError, match="another plan"):
        runs.start_or_resume(out, small_scenario(rounds=9))


def test_a_folder_with_anything_else_in_it_is_not_taken(out):
    (out / ".lock").touch()
    runs.start(out, small_scenario())
    begin(out)
    with pytest.raises(RunError, match="already holds an unfinished run; add --resume"):
        runs.start(out, small_scenario())
    finish(out)
    with pytest.raises(RunError, match="already holds a finished run"):
        runs.start(out, small_scenario())
    other = out.parent / "other"
    other.mkdir()
    (other / "thesis.tex").touch()
    with pytest.raises(RunError, match="is not empty and holds no run"):
        runs.start(other, small_scenario())
    with pytest.raises(RunError, match="is not empty and holds no run"), runs.held(other):
        pass
    assert [path.name for path in other.iterdir()] == ["thesis.tex"]
    with pytest.raises(RunError, match="holds no run to resume"):
        runs.resume(other, None)


def test_the_latest_unfinished_run_is_found(tmp_path):
    with pytest.raises(RunError, match="found no unfinished run to resume; give its folder by --out"):
        runs.latest_unfinished(tmp_path)
    for age, name in enumerate(("new", "older", "oldest")):
        (tmp_path / name).mkdir()
        runs.start(tmp_path / name, small_scenario())
        os.utime(tmp_path / name / runs.SCENARIO, (1000 - age, 1000 - age))
    assert runs.latest_unfinished(tmp_path) == tmp_path / "new"
    finish(tmp_path / "new")
    assert runs.latest_unfinished(tmp_path) == tmp_path / "older"


def test_a_folder_is_held_by_one_process(out):
    with runs.held(out), pytest.raises(RunError, match="in use by another run"), runs.held(out):
        pass
    with runs.held(out):  # free again
        pass
    (out.parent / "file").touch()
    with (
        pytest.raises(RunError, match="cannot be used as the run's folder"),
        runs.held(out.parent / "file" / "x"),
    ):
        pass


def test_runs_share_data_exactly_if_the_same_data_would_be_made():
    one = runs.data_id(small_scenario())
    assert one == runs.data_id(small_scenario(rounds=9, name="other"))
    for change in ({"seed": 99}, {"min_patients": 9}, {"findings": ("x",)}, {"data": PhantomData(sites=2)}):
        assert runs.data_id(small_scenario(**change)) != one


def test_no_result_no_finished_run(out):
    assert runs.finished_result(out) is None
    assert not runs.is_finished(out)
    finish(out)
    assert runs.is_finished(out)
    with pytest.raises(RunError, match="damaged, or of another version"):
        runs.finished_result(out)


NORTH, SOUTH = {"north": "aa", "south": "bb"}, {"north": "aa", "south": "cc"}


def on(out, fingerprints):
    return runs.TrainedOn(out / "cohorts", fingerprints)


def test_what_was_begun_goes_on_with_the_same_data_alone(out):
    runs.require_same_data(out, on(out, NORTH))
    runs.require_same_data(out, on(out, SOUTH))  # nothing was trained on the others
    begin(out)
    runs.require_same_data(out, on(out, SOUTH))
    with pytest.raises(RunError, match="the data of south are not those that it was begun with"):
        runs.require_same_data(out, on(out, NORTH))
    with pytest.raises(RunError, match="the data of west are not"):
        runs.require_same_data(out, on(out, {**SOUTH, "west": "dd"}))
    assert runs.trained_on(out).fingerprints == SOUTH


def test_where_the_data_lie_moves_with_the_folder(out, tmp_path):
    shared = tmp_path / "data" / "id" / "cohorts"
    shared.mkdir(parents=True)
    runs.require_same_data(out, runs.TrainedOn(shared, NORTH))
    assert runs.trained_on(out).cohorts.resolve() == shared
    moved = tmp_path.with_name("moved")
    tmp_path.rename(moved)
    assert runs.trained_on(moved / "run").cohorts.resolve() == moved / "data" / "id" / "cohorts"
    (moved / "run" / runs.DATA).write_text("[1")
    with pytest.raises(RunError, match="not readable"):
        runs.trained_on(moved / "run")
    moved.rename(tmp_path)
