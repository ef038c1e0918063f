"""A model that others made is judged as ours are: our own ONNX under a contract gives what PyTorch gives."""

import json
import shutil

import onnx
import pytest
from onnx import TensorProto, helper

from common.config import dump_yaml
from common.foreign import Contract
from tests.helpers.command import refused
from tests.helpers.handed import PLAN
from tests.helpers.images import write_index


def contract(folder, **changes):
    values = {"name": "vendor", "findings": ("pneumonia",), "input": PLAN.input, "output": "logits"} | changes
    (folder / "contract.yaml").write_text(dump_yaml(Contract(**values)))
    return folder


@pytest.fixture
def ours_as_foreign(exported, tmp_path):
    folder = tmp_path / "foreign"
    folder.mkdir()
    shutil.copy(exported / "model.onnx", folder / "model.onnx")
    return contract(folder)


def mean_model(folder, rank=4, outputs=1, offset=0.0):
    """Says yes to bright images: the mean of the pixels, times ten, less three."""
    axes = list(range(1, rank))
    names = ["B", *"TCHW"[-(rank - 1) :]]
    nodes = [
        helper.make_node("ReduceMean", ["frames"], ["mean"], axes=axes, keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "one"], ["column"]),
        helper.make_node("Mul", ["column", "ten"], ["scaled"]),
        helper.make_node("Add", ["scaled", "less"], ["out"]),
    ]
    numbers = [
        helper.make_tensor("one", TensorProto.INT64, [1], [1]),
        helper.make_tensor("ten", TensorProto.FLOAT, [1, outputs], [10.0] * outputs),
        helper.make_tensor("less", TensorProto.FLOAT, [1], [offset]),
    ]
    given = helper.make_tensor_value_info("frames", TensorProto.FLOAT, names)
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["B", outputs])
    graph = helper.make_graph(nodes, "mean", [given], [out], numbers)
    folder.mkdir(exist_ok=True)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8),
        folder / "model.onnx",
    )
    return folder


def judged(here, model, data, *words):
    done = here("evaluate", str(model), "--on", str(data), "--json", *words)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_our_own_onnx_is_judged_as_the_model_that_it_was_made_of(here, exported, ours_as_foreign, images):
    ours, foreign = judged(here, exported, images), judged(here, ours_as_foreign, images)
    for key in ("auroc", "auprc", "n_patients", "n_positive"):
        assert foreign["findings"]["pneumonia"][key] == pytest.approx(ours["findings"]["pneumonia"][key])
    assert foreign["n_training"] is None
    against = judged(here, ours_as_foreign, images, "--against", str(exported))["findings"]["pneumonia"][
        "against"
    ]
    assert against["value"] == pytest.approx(0.0)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("max_frames", [1, 3])
def test_images_of_one_or_several_with_one_or_three_channels(here, tmp_path, channels, max_frames):
    index = write_index(tmp_path / "images", 30)
    model = mean_model(tmp_path / "m", rank=4 if max_frames == 1 else 5, offset=-3.0)
    contract(model, input={"size": 16, "max_frames": max_frames}, channels=channels)
    found = judged(here, model, index)["findings"]["pneumonia"]
    assert found["auroc"] > 0.9  # the positives' corner is bright
    assert found["n_patients"] == 30
    done = here(
        "client", "predict", "--model", str(model), "--input", str(index), "--out", str(tmp_path / "out")
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "out" / "predictions.json").read_text())["predictions"]
    assert {row["split"] for row in rows} == {"unknown"}


def test_mean_and_std_are_those_of_the_contract(here, tmp_path):
    index = write_index(tmp_path / "images", 12)
    model = mean_model(tmp_path / "m")

    def first(**changes):
        contract(model, input={"size": 16, "max_frames": 1}, **changes)
        out = tmp_path / str(len(list(tmp_path.iterdir())))
        assert (
            here(
                "client", "predict", "--model", str(model), "--input", str(index), "--out", str(out)
            ).returncode
            == 0
        )
        return json.loads((out / "predictions.json").read_text())["predictions"][0]["probability_pneumonia"]

    assert first(mean=0.5, std=0.5) < 0.5 < first()


WRONG = {
    "not ONNX": (lambda folder: (folder / "model.onnx").write_text("rubbish"), {}, "not readable as ONNX"),
    "other inputs": (lambda folder: mean_model(folder, rank=3), {}, "expected frames (B, C, size, size)"),
    "more columns": (
        lambda folder: mean_model(folder, outputs=2),
        {},
        "expected a column for each of pneumonia",
    ),
    "no probabilities": (
        lambda folder: mean_model(folder, offset=-9.0),
        {"output": "probabilities"},
        "expected probabilities",
    ),
    "no file": (lambda folder: (folder / "model.onnx").unlink(), {}, "not readable as ONNX"),
}


@pytest.mark.parametrize(("spoil", "changes", "said"), WRONG.values(), ids=WRONG)
def test_what_is_not_as_the_contract_says_is_one_line(here, tmp_path, spoil, changes, said):
    index = write_index(tmp_path / "images", 12)
    model = contract(mean_model(tmp_path / "m"), input={"size": 16, "max_frames": 1}, **changes)
    spoil(model)
    refused(here("evaluate", str(model), "--on", str(index)), said)


def test_it_is_not_explained_and_no_hospital_gains_by_it(here, tmp_path, place, images, ours_as_foreign):
    words = ("--model", str(ours_as_foreign), "--input", str(images), "--out", str(tmp_path / "why"))
    refused(here("client", "explain", *words), "can be judged and predict, and no more")
    _, _, sites = place
    refused(here("client", "gain", str(ours_as_foreign), "--dir", str(sites["north"].path)), "others made it")
