"""safetensors read in place, against the library that defines it."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors.numpy import load, save

from common.tensors import read_float32

MANY = 10_000
SHAPES = st.lists(st.integers(0, 3), max_size=3).map(tuple)
TENSORS = st.dictionaries(
    st.text(max_size=5).filter(lambda name: name != "__metadata__"),
    SHAPES.flatmap(lambda shape: arrays.arrays(np.float32, shape, elements=st.floats(width=32))),
    max_size=4,
)


def made(header, body=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + body


def entry(shape, start, stop, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


@given(TENSORS, st.booleans())
def test_it_reads_what_the_library_writes(tensors, told):
    data = save(tensors, metadata={"a": "b"} if told else None)
    found = read_float32(data, MANY)
    assert found.keys() == tensors.keys()
    for name, array in tensors.items():
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], array)
        assert not found[name].flags.writeable


@settings(max_examples=300)
@given(st.binary(min_size=1, max_size=8), st.integers(0, 200))
def test_damaged_it_is_refused_or_read_as_the_library_does(noise, place):
    data = bytearray(save({"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(2, np.float32)}))
    data[place : place + len(noise)] = noise
    try:
        found = read_float32(data, MANY)
    except ValueError:
        return
    expected = load(bytes(data))  # what we take, the library takes
    assert found.keys() == expected.keys()
    for name in found:
        np.testing.assert_array_equal(found[name], expected[name])


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "longer than"),
        (b"\x00" * 7, "longer than"),
        (made({}, length=99), "longer than"),
        (made(b" " * (MANY + 1)), "longer than"),
        (made(b"{"), "Expecting|cannot be read|property name"),
        (made(b"[" * 9000), "cannot be read|Expecting"),
        (made(b"\xff\xfe"), "codec|Expecting"),
        (made([1]), "no table"),
        (made({"a": 3}), "cannot be read"),
        (made({"a": {}}), "cannot be read"),
        (made({"a": entry([1], 0, 4)}), "longer than what came"),
        (made({"a": entry([1], 4, 8)}, bytes(8)), "leave a gap"),
        (made({"a": entry([2], 0, 8), "b": entry([1], 4, 8)}, bytes(8)), "overlap"),
        (made({"a": entry([1], 0, 4)}, bytes(5)), "more bytes than tensors"),
        (made({"a": entry([1], 0, 8)}, bytes(8)), "not of its shape's size"),
        (made({"a": entry([1], 0, 8, "F64")}, bytes(8)), "not float32"),
        (made({"a": entry([-1], 0, -4)}), "no number"),
        (made({"a": entry([True], 0, 4)}, bytes(4)), "no number"),
        (made({"a": entry([1.0], 0, 4)}, bytes(4)), "no number"),
        (made({"a": entry([10**30], 0, 4)}, bytes(4)), "no number"),
        (made({"a": entry("1", 0, 4)}, bytes(4)), "no list"),
    ],
)
def test_what_it_is_not_is_said(data, said):
    with pytest.raises(ValueError, match=said):
        read_float32(data, MANY)


def test_tensors_share_the_memory_of_what_came():
    data = bytearray(save({"a": np.zeros(4, np.float32)}))
    found = read_float32(data, MANY)["a"]
    data[-4:] = np.float32(7).tobytes()
    assert found[3] == 7
