import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import packets
from common.errors import WireError
from common.packets import MOST_BYTES, MOST_OBJECTS, SMALL_BYTES, pack, unpack


@given(st.binary(max_size=50), st.lists(st.binary(max_size=50), max_size=MOST_OBJECTS))
def test_what_is_packed_is_unpacked_by_its_names(first, objects):
    named = {hashlib.sha256(content).hexdigest(): content for content in objects}
    assert unpack(pack(first, objects)) == (first, named)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_packet_or_refused(data):
    try:
        first, objects = unpack(data)
    except WireError:
        return
    assert pack(first, objects.values())[: 4 + len(first)] == data[: 4 + len(first)]


def test_what_is_large_or_too_much_is_left_out_and_refused_where_it_comes_all_the_same(monkeypatch):
    large, most = bytes(SMALL_BYTES + 1), [bytes([k]) * SMALL_BYTES for k in range(20)]
    assert unpack(pack(b"first", [large, b"small"]))[1].keys() == {hashlib.sha256(b"small").hexdigest()}
    assert len(unpack(pack(b"first", most))[1]) == MOST_BYTES // SMALL_BYTES
    many = [str(k).encode() for k in range(MOST_OBJECTS + 10)]
    assert len(unpack(pack(b"first", many))[1]) == MOST_OBJECTS
    for name, value, objects in (
        ("SMALL_BYTES", 2 * SMALL_BYTES, [large]),
        ("MOST_BYTES", 2 * MOST_BYTES, most),
        ("MOST_OBJECTS", 2 * MOST_OBJECTS, many),
    ):
        with monkeypatch.context() as generous:
            generous.setattr(packets, name, value)
            packet = pack(b"first", objects)
        with pytest.raises(WireError, match="not a readable packet"):
            unpack(packet)


@pytest.mark.parametrize("data", [b"", b"\0", b"\0\0\0\5four", b"\xff" * 4, pack(b"first", []) + b"\0\0"])
def test_a_row_that_does_not_end_where_it_says_is_refused(data):
    with pytest.raises(WireError, match="not a readable packet"):
        unpack(data)
