"""A plan with its data and machine: the hash is the plan's alone, and data are found or refused in one line."""

import pytest

from client.imaging.sources import DicomFolder, ImageIndex, NpzFile
from common.errors import ConfigError
from simulation import scenario as module
from simulation.scenario import DicomData, ImageData, Machine, NpzData, Partition, PhantomData, scenario_with
from tests.helpers.plans import small_plan, small_scenario


def test_neither_data_nor_machine_are_in_the_plan_s_hash():
    one = small_scenario(data=PhantomData(sites=2), simulation=Machine(engine="pool"))
    assert one.plan.sha256 == small_scenario().plan.sha256 == small_plan().sha256


@pytest.mark.parametrize(
    ("machine", "cores", "workers", "threads"),
    [
        (Machine(), 4, 1, 4),
        (Machine(threads=2), 4, 1, 2),
        (Machine(engine="pool"), 4, 4, 1),
        (Machine(engine="pool", workers=2), 4, 2, 2),
        (Machine(engine="pool", workers=8), 4, 8, 1),
        (Machine(engine="sequential", workers=8), 4, 1, 4),
    ],
)
def test_cores_are_shared_between_workers(monkeypatch, machine, cores, workers, threads):
    monkeypatch.setattr(module, "n_cores", lambda: cores)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert (machine.n_workers, machine.n_threads) == (workers, threads)


def test_workers_of_a_pool_are_dealt_out_over_the_gpus(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    pool = Machine(engine="pool")
    assert [pool.device_of(node) for node in (1, 2, 3)] == ["cuda:0", "cuda:1", "cuda:0"]
    assert Machine(engine="pool", device="cpu").device_of(1) == "cpu"
    assert Machine().device_of(2) == "auto"


def test_one_folder_a_hospital_or_one_set_that_is_dealt_out(tmp_path):
    for name in ("b", "a", "empty"):
        (tmp_path / name).mkdir()
    for name in ("a", "b"):
        (tmp_path / name / "labels.csv").touch()
        (tmp_path / name / "index.csv").touch()
    path = str(tmp_path)
    found = small_scenario(data=DicomData(path=path)).sources()
    assert list(found) == ["a", "b"]
    assert all(isinstance(source, DicomFolder) for source in found.values())
    images = small_scenario(data=ImageData(path=path)).sources()
    assert all(isinstance(source, ImageIndex) for source in images.values())
    whole = small_scenario(data=DicomData(path=path, partition=Partition())).sources()
    assert list(whole) == [""]
    (npz,) = small_scenario(data=NpzData(path=path)).sources().values()
    assert isinstance(npz, NpzFile)


def test_no_data_are_refused_in_one_line(tmp_path):
    with pytest.raises(ConfigError, match="no such file or folder"):
        small_scenario(data=DicomData(path=str(tmp_path / "absent"))).sources()
    with pytest.raises(ConfigError, match=r"found no folder with a index.csv, expected one a hospital"):
        small_scenario(data=ImageData(path=str(tmp_path))).sources()


def test_values_are_set_by_key_and_the_tree_stays_as_it_was():
    tree = small_scenario().model_dump(mode="json")
    before = str(tree)
    changed = scenario_with(tree, {"training.learning_rate": 0.2, "data.sites": 2}, "here")
    assert (changed.training.learning_rate, changed.data.sites) == (0.2, 2)
    assert str(tree) == before
    with pytest.raises(ConfigError, match=r"here: .*training.depth: unknown key"):
        scenario_with(tree, {"training.depth": 1}, "here")
