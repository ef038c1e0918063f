"""Coded updates, against plain loops and the bound of what rounding may lose; and what is no coded update."""

import hashlib
import math

import numpy as np
import pytest
import zstandard
from flwr.app import Array, ArrayRecord
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from common import wire
from common.codec import CODED, Coder, identity
from common.errors import WireError
from common.models import build_model
from common.plan import LEVELS, Codec
from common.wire import Schema
from tests.helpers.plans import small_plan

SHAPES = {"conv": (3, 2, 2), "bias": (5,), "scale": (), "again": (2, 4)}
NUMBERS = st.floats(-(2.0**100), 2.0**100, width=32)
VALUES = st.fixed_dictionaries(
    {name: arrays(np.float32, shape, elements=NUMBERS) for name, shape in SHAPES.items()}
)
NAMES = st.sampled_from(list(LEVELS))


def coder(name="int4", top=1.0, shapes=None):
    return Coder(Codec(name=name, top=top), Schema(shapes or SHAPES))


def drawn(seed=0, size=0.01):
    rng = np.random.default_rng(seed)
    return {name: rng.normal(0, size, shape).astype(np.float32) for name, shape in SHAPES.items()}


def rng(seed=1):
    return np.random.default_rng(seed)


@pytest.mark.slow
@given(VALUES, NAMES, st.integers(0, 2**32))
def test_both_sides_read_the_same_and_no_number_is_off_by_more_than_a_step(values, name, seed):
    payload, told = coder(name).encode(values, rng(seed))
    read = coder(name).decode(payload)
    assert list(read) == list(told) == list(SHAPES)
    for key, value in values.items():
        assert read[key].dtype == np.float32
        assert np.array_equal(read[key], told[key])
        rows = value.reshape(value.shape[0] if value.ndim > 1 else 1, -1).astype(np.float64)
        step = np.abs(rows).max(axis=1, keepdims=True) / LEVELS[name]
        # A row of nothing but the smallest of float32 is sent as nought.
        tolerance = step * (1 + 1e-5) + LEVELS[name] * np.finfo(np.float32).tiny
        assert (np.abs(told[key].reshape(rows.shape) - rows) <= tolerance).all()


def test_a_row_by_hand():
    values = {"w": np.array([[7.0, -3.5, 0.0, 1.0]], np.float32)}

    class Half:
        def random(self, shape, dtype):
            return np.full(shape, 0.5, dtype)

    _, told = coder(shapes={"w": (1, 4)}).encode(values, Half())
    assert told["w"].tolist() == [[7.0, -3.0, 0.0, 1.0]]  # floor(-3.5 + 0.5) = -3


def test_rounding_is_right_on_average():
    values = drawn(3)
    mean = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    for seed in range(2000):
        for name, told in coder().encode(values, rng(seed))[1].items():
            mean[name] += told / 2000
    for name, value in values.items():
        step = np.abs(value).max() / 7
        assert np.abs(mean[name] - value).max() < 5 * 0.5 * step / math.sqrt(2000)


@pytest.mark.parametrize(("name", "top"), [("int4", 1.0), ("int8", 1.0), ("int4", 0.2)])
def test_over_the_rounds_nothing_is_lost(name, top):
    """What was told and what is owed are what was to be told."""
    owed, told_all, whole = {n: np.zeros(s, np.float32) for n, s in SHAPES.items()}, {}, {}
    for round in range(60):
        update = drawn(round)
        values = {n: v + owed[n] for n, v in update.items()}
        _, told = coder(name, top).encode(values, rng(round))
        owed = {n: v - told[n] for n, v in values.items()}
        told_all = {n: told_all.get(n, 0) + t.astype(np.float64) for n, t in told.items()}
        whole = {n: whole.get(n, 0) + u.astype(np.float64) for n, u in update.items()}
    for n in SHAPES:
        np.testing.assert_allclose(told_all[n] + owed[n], whole[n], atol=1e-5)
        assert np.abs(owed[n]).max() < 0.5  # it stays a few updates' worth


@given(VALUES, st.floats(0.01, 0.99))
def test_a_share_is_the_largest_numbers(values, top):
    _, told = coder("int8", top).encode(values, rng())
    sizes = sorted((abs(x) for v in values.values() for x in v.reshape(-1).tolist()), reverse=True)
    least = sizes[max(1, round(top * len(sizes))) - 1]
    for name, value in values.items():
        assert not told[name][np.abs(value) < least].any()
    assert np.array_equal(
        *(coder("int8", top).encode(values, rng(), sparse=False)[1]["conv"], coder("int8").encode(values, rng())[1]["conv"])
    )  # fmt: skip


def test_what_does_not_train_costs_next_to_nothing():
    shapes = {"frozen": (1000, 1000), "head": (10, 100)}
    zeros = np.zeros(shapes["frozen"], np.float32)
    values = {"frozen": zeros, "head": rng().normal(size=shapes["head"]).astype(np.float32)}
    payload, told = coder(shapes=shapes).encode(values, rng())
    assert not told["frozen"].any()
    assert len(payload) < 2000 < 4_000_000
    dense = {"w": (1000, 1000)}
    payload, _ = coder(shapes=dense).encode({"w": rng().normal(size=dense["w"]).astype(np.float32)}, rng())
    assert (
        len(payload) < 0.105 * 4_000_000
    )  # int4 of normal numbers has an entropy of 0.098 of float32's bits


@pytest.mark.parametrize("kept", [{"frozen_stages": 6}, {"adapters": 4}], ids=str)
def test_of_a_frozen_encoder_s_model_a_fiftieth_travels(kept):
    """resnet18, frozen or with adapters: what trains is drawn, up and down once each, over float32 of all tensors up and down."""
    plan = small_plan(model={"encoder": "resnet18", "pretrained": "0" * 64, **kept})
    model = build_model(plan)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    schema = Schema.of(model)
    draw = rng()
    update = {
        name: draw.normal(0, 0.01, shape).astype(np.float32)
        if name in trained
        else np.zeros(shape, np.float32)
        for name, shape in schema.shapes.items()
    }
    payload, _ = Coder(Codec(name="int4"), schema).encode(update, rng())
    assert 10_000 < sum(update[name].size for name in trained) < 0.1 * schema.n_bytes / 4
    assert 2 * len(payload) / (2 * schema.n_bytes) < 0.005


@settings(max_examples=200)
@given(st.data())
def test_a_damaged_payload_is_refused(data):
    payload, _ = coder().encode(drawn(), rng())
    kind = data.draw(st.sampled_from(["flip", "cut", "add", "anything"]))
    if kind == "flip":
        at = data.draw(st.integers(0, len(payload) - 1))
        payload = (
            payload[:at] + bytes([payload[at] ^ (1 << data.draw(st.integers(0, 7)))]) + payload[at + 1 :]
        )
    elif kind == "cut":
        payload = payload[: data.draw(st.integers(0, len(payload) - 1))]
    elif kind == "add":
        payload += data.draw(st.binary(min_size=1, max_size=50))
    else:
        payload = data.draw(st.binary(max_size=200))
    with pytest.raises(WireError):
        coder().decode(payload)


def forged(body, **options):
    frame = zstandard.ZstdCompressor(**options).compress(body)
    return hashlib.sha256(frame).digest() + frame


def body_of(scales, codes):
    return np.asarray(scales, "<f4").tobytes() + np.asarray(codes, np.int8).tobytes()


N_ROWS, N_CODES = 3 + 1 + 1 + 2, 12 + 5 + 1 + 8
GOOD = body_of(np.ones(N_ROWS), np.ones(N_CODES))
FORGED = {
    "a bomb": (lambda: forged(b"\0" * 5_000_000), "says that it holds 5000000 bytes, expected"),
    "a bomb that does not say so": (lambda: forged(b"\0" * 5_000_000, write_content_size=False), "says that it holds"),
    "one byte more": (lambda: forged(GOOD + b"\0"), "says that it holds"),
    "one byte less": (lambda: forged(GOOD[:-1]), "says that it holds"),
    "another frame behind it": (
        lambda: (lambda f: hashlib.sha256(f).digest() + f)(forged(GOOD)[32:] * 2), "expanded"),
    "an infinite scale": (lambda: forged(body_of([np.inf] * N_ROWS, np.ones(N_CODES))), "scale"),
    "a scale that is not a number": (lambda: forged(body_of([np.nan] * N_ROWS, np.ones(N_CODES))), "scale"),
    "a negative scale": (lambda: forged(body_of([-1.0] * N_ROWS, np.ones(N_CODES))), "scale"),
    "a scale whose numbers are infinite": (lambda: forged(body_of([3e38] * N_ROWS, np.ones(N_CODES))), "beyond float32"),
    "an integer of the other codec": (lambda: forged(body_of(np.ones(N_ROWS), np.full(N_CODES, 8))), "beyond 7"),
    "the least integer": (lambda: forged(body_of(np.ones(N_ROWS), np.full(N_CODES, -128))), "beyond 7"),
    "nothing": (lambda: b"", "coded bytes"),
    "a megabyte": (lambda: b"\0" * 1_000_000, "found 1000000 coded bytes"),
}  # fmt: skip


@pytest.mark.parametrize("how", FORGED)
def test_what_a_liar_makes_is_refused_before_it_is_expanded(how):
    make, said = FORGED[how]
    with pytest.raises(WireError, match=said):
        coder().decode(make())
    with pytest.raises(WireError, match=said):
        coder().rebuilt(make())


def test_what_leaves_is_made_anew():
    payload, told = coder().encode(drawn(), rng())
    body = zstandard.ZstdDecompressor().decompress(payload[32:])
    other = forged(body, level=19)  # the same numbers in other bytes: room for a message
    assert coder().rebuilt(other) == coder().rebuilt(payload) == payload
    assert all(np.array_equal(coder().decode(other)[k], told[k]) for k in told)


def test_values_that_cannot_be_told_are_refused():
    for wrong in ({"bias": np.full(5, np.nan, np.float32)}, {"bias": np.zeros(6, np.float32)}):
        with pytest.raises(WireError, match="tensor bias"):
            coder().encode({**drawn(), **wrong}, rng())


def test_a_record_holds_the_payload_and_nothing_else():
    record = coder().pack(b"12345")
    assert coder().payload_of(record) == b"12345"
    for wrong in (
        wire.pack(drawn()),
        ArrayRecord({CODED: Array("uint8", (5,), "other", b"12345")}),
        ArrayRecord({CODED: record[CODED], "more": record[CODED]}),
        ArrayRecord(),
    ):
        with pytest.raises(WireError, match="found the arrays"):
            coder().payload_of(wrong)


def test_a_plan_says_how():
    schema = Schema(SHAPES)
    assert Coder.of(small_plan(), schema) is None
    assert Coder.of(small_plan(codec={"name": "int8"}), schema).codec.levels == 127
    with pytest.raises(ValueError, match="set name int8 or int4 too"):
        small_plan(codec={"top": 0.5})
    assert small_plan().sha256 != small_plan(codec={"name": "int4"}).sha256
    assert "codec" not in small_plan().model_dump(mode="json")


def test_weights_have_one_identity():
    one = drawn()
    assert identity(one) == identity(dict(reversed(one.items())))
    assert identity(one) != identity({**one, "scale": one["scale"] + 1})
    assert identity(one) != identity({("b" if k == "bias" else k): v for k, v in one.items()})
