import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from common import wire
from common.errors import WireError
from common.models import build_model
from tests.conftest import small_plan

MODEL = build_model(small_plan())
SCHEMA = wire.Schema.of(MODEL)


def weights(**changes):
    return {**wire.get_weights(MODEL), **changes}


def test_weights_cross_and_come_back():
    received = SCHEMA.check(wire.to_record(weights()))
    assert all((received[name] == w).all() for name, w in weights().items())
    other = build_model(small_plan(seed=99))
    wire.set_weights(other, received)
    assert all((wire.get_weights(other)[name] == w).all() for name, w in weights().items())


def test_sent_weights_do_not_change_when_training_goes_on():
    before = wire.get_weights(MODEL)
    kept = before["scale"].copy()
    MODEL.scale.data += 1.0
    assert (before["scale"] == kept).all()
    MODEL.scale.data -= 1.0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"scale": np.array([np.nan], np.float32)}, "scale: holds NaN"),
        ({"scale": np.array([-np.inf], np.float32)}, "scale: holds NaN or infinity"),
        ({"scale": np.zeros(2, np.float32)}, r"scale: found float32 \(2,\), expected float32 \(1,\)"),
        ({"extra": np.zeros(2, np.float32)}, "extra is not part of the model"),
    ],
)
def test_other_tensors_than_agreed_are_refused_by_name(change, said):
    with pytest.raises(WireError, match=said):
        SCHEMA.check(wire.to_record(weights(**change)))


def test_another_type_is_refused():
    record = wire.to_record(weights())
    record["scale"] = Array(np.zeros(1, np.float64))
    with pytest.raises(WireError, match="float64"):
        SCHEMA.check(record)


def test_a_missing_tensor_is_refused():
    record = wire.to_record({k: v for k, v in weights().items() if k != "scale"})
    with pytest.raises(WireError, match="scale is missing"):
        SCHEMA.check(record)


@pytest.mark.parametrize("data", [b"", b"rubbish", b"\x93NUMPY" + b"\0" * 100, Array(np.zeros(9, np.float32)).data])
def test_a_lying_header_is_refused(data):
    record = wire.to_record(weights())
    record["scale"] = Array("float32", (1,), "numpy.ndarray", data)
    with pytest.raises(WireError, match="scale"):
        SCHEMA.check(record)


def test_a_bomb_is_refused_before_it_is_decoded():
    record = wire.to_record(weights())
    record["scale"] = Array("float32", (1,), "numpy.ndarray", b"\0" * 10_000)
    with pytest.raises(WireError, match="more than its shape needs"):
        SCHEMA.check(record)


@pytest.mark.parametrize(
    "numbers",
    [
        {"num-examples": 3},
        {"num-examples": 3, "loss": 1.0, "age-of-mr-smith": 71.0},
        {"num-examples": 0, "loss": 1.0},
        {"num-examples": -1, "loss": 1.0},
        {"num-examples": 2.5, "loss": 1.0},
        {"num-examples": 2**40, "loss": 1.0},
        {"num-examples": 3, "loss": [1.0]},
    ],
)
def test_other_numbers_than_agreed_are_refused(numbers):
    with pytest.raises(WireError):
        wire.check_numbers(RecordDict({"metrics": MetricRecord(numbers)}), ("loss",))


def test_agreed_numbers_pass():
    content = RecordDict({"metrics": MetricRecord({"num-examples": 3, "loss": float("nan")})})
    assert wire.check_numbers(content, ("loss",))["num-examples"] == 3


@pytest.mark.parametrize("value", [0, -1, 1.0, True, "1"])
def test_a_round_is_a_whole_number_from_one(value):
    with pytest.raises(WireError):
        wire.get_round(RecordDict({"config": ConfigRecord({"server-round": value})}))


def test_missing_records_are_named():
    for read in (wire.get_arrays, wire.get_round, lambda c: wire.get_text(c, "site"), lambda c: wire.check_numbers(c, ())):
        with pytest.raises(WireError):
            read(RecordDict({"other": ArrayRecord()}))
