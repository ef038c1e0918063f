import contextlib

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from common import wire
from common.errors import WireError
from common.models import build_model
from tests.helpers.plans import small_plan

MODEL = build_model(small_plan())
SCHEMA = wire.Schema.of(MODEL)


def weights(**changes):
    return {**wire.get_weights(MODEL), **changes}


def test_weights_cross_and_come_back():
    received = SCHEMA.unpack(wire.pack(weights()))
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
        SCHEMA.unpack(wire.pack(weights(**change)))


def packed(tensors=None, data=None, stype=wire.PACKED, name=wire.PACKED):
    data = save(tensors) if data is None else data
    return ArrayRecord({name: Array("uint8", (len(data),), stype, data)})


def test_another_type_is_refused():
    with pytest.raises(WireError, match="not float32"):
        SCHEMA.unpack(packed({**weights(), "scale": np.zeros(1, np.float64)}))


def test_a_missing_tensor_is_refused():
    with pytest.raises(WireError, match="scale is missing"):
        SCHEMA.unpack(wire.pack({k: v for k, v in weights().items() if k != "scale"}))


@pytest.mark.parametrize(
    "data", [b"", b"rubbish", b"\xff" * 8, b"\x93NUMPY" + b"\0" * 100, save({"x": np.zeros(2)})[:-1]]
)
def test_rubbish_is_refused(data):
    with pytest.raises(WireError, match="safetensors"):
        SCHEMA.unpack(packed(data=data))


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=200), st.integers(0, 400))
def test_damaged_bytes_are_refused_or_are_the_agreed_tensors(noise, place):
    good = wire.pack(weights())[wire.PACKED].data
    data = good[:place] + noise + good[place + len(noise) :]
    with contextlib.suppress(WireError):
        received = SCHEMA.unpack(packed(data=data))
        assert received.keys() == SCHEMA.shapes.keys()
        assert all(np.isfinite(w).all() and w.shape == SCHEMA.shapes[k] for k, w in received.items())


def test_more_bytes_than_the_model_needs_are_refused_before_they_are_decoded():
    with pytest.raises(WireError, match="expected at most"):
        SCHEMA.unpack(packed({**weights(), "scale": np.zeros(100_000, np.float32)}))


def test_another_encoding_or_a_second_array_is_refused():
    with pytest.raises(WireError, match="numpy"):
        SCHEMA.unpack(packed(weights(), stype="numpy.ndarray"))
    with pytest.raises(WireError, match="expected safetensors alone"):
        SCHEMA.unpack(packed(weights(), name="weights"))


def test_the_same_tensors_give_the_same_bytes():
    assert wire.pack(weights()).object_id == wire.pack(dict(reversed(weights().items()))).object_id


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
    for read in (
        wire.get_arrays,
        wire.get_round,
        lambda c: wire.get_text(c, "site"),
        lambda c: wire.check_numbers(c, ()),
    ):
        with pytest.raises(WireError):
            read(RecordDict({"other": ArrayRecord()}))
