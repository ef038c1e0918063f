"""Who is judged: the plan's own parts of the run's patients, a file's own test arrays, all of what is new."""

import numpy as np
import pytest

from client.imaging.cohort import Cohort
from client.prediction.judging.labelled import Place, read_part
from common.errors import DataError
from common.handover import Handed, read_model
from simulation.phantom import write_phantom
from tests.helpers.plans import small_plan


def patients(labelled):
    return set(labelled.cohort.patients[labelled.indices].tolist())


@pytest.mark.parametrize("part", ["test", "validation"])
def test_a_cohort_and_its_dicom_files_give_the_run_s_own_part(simulated, tmp_path, part):
    model = read_model(simulated)
    (site,) = sorted((simulated / "cohorts").glob("*-a"))
    kept = read_part(model, Place(site), part, tmp_path / "1")
    straight = read_part(model, Place(simulated / "dicom" / site.name), part, tmp_path / "2")
    cohort = Cohort.open(site)
    assert patients(kept) == patients(straight) == set(cohort.patients[cohort.split(model.plan.split)[part]])
    assert kept.n_training == straight.n_training == 0


def test_all_patients_come_with_the_number_of_those_in_training(simulated, tmp_path):
    model = read_model(simulated)
    (site,) = sorted((simulated / "cohorts").glob("*-a"))
    whole = read_part(model, Place(site), "all", tmp_path / "1")
    cohort = Cohort.open(site)
    assert len(patients(whole)) == len(set(cohort.patients))
    assert whole.n_training == cohort.count_patients(cohort.split(model.plan.split)["train"])


def test_other_hospitals_patients_are_all_judged_and_nobody_knows_of_training(simulated, tmp_path):
    (elsewhere,) = write_phantom(tmp_path / "elsewhere", 1, 8, 99)
    found = read_part(read_model(simulated), Place(elsewhere), "test", tmp_path / "w")
    assert len(patients(found)) == 8
    assert (found.n_training, found.part) == (None, "all")  # not "test": that word is the plan's


def npz(path, *parts, n=30):
    rng = np.random.default_rng(0)
    arrays = {}
    for part in parts:
        arrays[f"{part}_images"] = rng.integers(0, 256, (n, 16, 16), np.uint8)
        arrays[f"{part}_labels"] = rng.integers(0, 2, (n, 1))
    np.savez(path, **arrays)
    return path


def model_of(tmp_path, data=""):
    return Handed(tmp_path / "model", small_plan(), {}, "", float("nan"), {}, data)


def test_a_file_s_test_arrays_are_its_test_part(tmp_path):
    path = npz(tmp_path / "mnist.npz", "train", "val", "test")
    (tmp_path / "patient_map.csv").write_text(
        "split,index,patient_id\n"
        + "".join(f"{part},{i},{i // 3}\n" for part in ("train", "val") for i in range(30))
    )  # a map of the other parts
    for data in ("", str(path)):
        model = model_of(tmp_path, data)
        found = read_part(model, Place(path), "test", tmp_path / f"w{bool(data)}")
        assert len(patients(found)) == 30
        assert found.n_training == (0 if data else None)
    foreign = read_part(model_of(tmp_path), Place(path), "validation", tmp_path / "v")
    assert len(patients(foreign)) == 10
    everything = read_part(model_of(tmp_path), Place(path), "all", tmp_path / "a")
    assert len(everything.indices) == 90


def test_of_a_file_that_the_run_split_the_run_s_own_parts_are_taken(tmp_path):
    path = npz(tmp_path / "mnist.npz", "train", "val")
    model = model_of(tmp_path, "elsewhere/mnist.npz")
    parts = {part: read_part(model, Place(path), part, tmp_path / part) for part in ("validation", "test")}
    assert not patients(parts["validation"]) & patients(parts["test"])
    assert 0 < len(parts["test"].indices) < 60
    with pytest.raises(DataError, match="holds train, val; expected the arrays test_images and test_labels"):
        read_part(model_of(tmp_path), Place(path), "test", tmp_path / "w")


def test_an_index_of_images_is_read(tmp_path):
    from PIL import Image

    rows = ["patient,file,order,pneumonia"]
    for i in range(6):
        Image.fromarray(np.full((16, 16), 40 * i, np.uint8)).save(tmp_path / f"{i}.png")
        rows.append(f"{i},{i}.png,1,{i % 2}")
    (tmp_path / "index.csv").write_text("\n".join(rows) + "\n")
    for place in (tmp_path, tmp_path / "index.csv"):
        found = read_part(model_of(tmp_path / "x"), Place(place), "all", tmp_path / "w")
        assert len(patients(found)) == 6


def test_what_the_model_does_not_take_is_said(simulated, tmp_path):
    model = read_model(simulated)
    with pytest.raises(DataError, match="no such cohort, folder of DICOM files"):
        read_part(model, Place(tmp_path / "absent"), "test", tmp_path / "w")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "labels.csv").write_text("patient,pneumonia\n1,0\n")
    with pytest.raises(DataError):
        read_part(model, Place(tmp_path / "empty"), "test", tmp_path / "w")
