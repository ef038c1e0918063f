"""safetensors read in place: what it holds are views of the bytes that came, not copies of them.

The format (huggingface.co/docs/safetensors): eight bytes with the header's length, little-endian; the header,
JSON of name -> {dtype, shape, data_offsets}; and the tensors' bytes, without a gap.
"""

import json
import math
import sys

import numpy as np
from numpy.typing import NDArray

_LENGTH = 8


def read_float32(data: bytes | bytearray, most_header: int) -> dict[str, NDArray[np.float32]]:
    """Name -> read-only array, all float32.

    Args:
        most_header: bytes that its header may have; unfolded, JSON is many times as large.

    Raises:
        ValueError: it is not such a file, or its tensors are of another type, overlap, or leave a gap.
    """
    view = memoryview(data).toreadonly()
    end = _LENGTH + int.from_bytes(view[:_LENGTH], "little")
    if len(view) < _LENGTH or end > min(len(view), _LENGTH + most_header):
        raise ValueError("its header is longer than agreed, or than what came")
    try:
        header = json.loads(bytes(view[_LENGTH:end]))
        if not isinstance(header, dict):
            raise ValueError("its header is no table")
        header.pop("__metadata__", None)
        entries = sorted((_entry(name, about) for name, about in header.items()), key=lambda entry: entry[1])
    except (KeyError, TypeError, RecursionError) as e:
        raise ValueError(f"its header cannot be read ({type(e).__name__})") from None
    body, place, tensors = view[end:], 0, {}
    for name, start, stop, shape in entries:
        if start != place or stop > len(body):
            raise ValueError("its tensors overlap, leave a gap, or are longer than what came")
        tensors[name] = np.frombuffer(body[start:stop], dtype="<f4").reshape(shape)
        place = stop
    if place != len(body):
        raise ValueError("it has more bytes than tensors")
    return tensors


def _entry(name: str, about: dict[str, object]) -> tuple[str, int, int, tuple[int, ...]]:
    shape, offsets = about["shape"], about["data_offsets"]
    if not isinstance(shape, list) or not isinstance(offsets, list) or len(offsets) != 2:
        raise ValueError("a tensor's shape or place is no list")
    numbers = [*shape, *offsets]
    if not all(type(n) is int and 0 <= n <= sys.maxsize for n in numbers):
        raise ValueError("a tensor's shape or place is no number")
    start, stop = offsets
    if about["dtype"] != "F32" or stop - start != 4 * math.prod(shape):
        raise ValueError("a tensor is not float32, or not of its shape's size")
    return name, start, stop, tuple(shape)
