"""Updates in a few bits a number: rounded at random to 15 or 255 levels a row, what rounding lost put on the
next update, then entropy coding.

A row (a convolution's output channel, a gate's weights; of a vector all of it) has one scale s, its largest
absolute value over 7 (int4) or 127 (int8). A number x becomes the integer floor(x / s + u), u uniform in
[0, 1): right on average (QSGD, Alistarh et al., 2017). What is lost is added to the next update before it is
rounded (error feedback, Seide et al., 2014; Karimireddy et al., 2019), so that over the rounds nothing is.
The integers go through zstandard, one byte each: tensors that do not train, or stay at a site, are zeros and
cost next to nothing.

    payload = SHA-256 of the frame (32 bytes) + one zstandard frame of:
              all scales, float32, then all integers, int8; tensors in the order of their names
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import zstandard
from flwr.app import Array, ArrayRecord
from numpy.typing import NDArray

from common.arrays import Reals
from common.errors import WireError
from common.plan import Codec, Plan
from common.wire import Schema, Weights

CODED = "pneumofed-coded-1"
"""The name and the type of the one array of a coded record, with the format's version."""
_HASH = 32
_SLACK = 1024
"""zstandard's frame of what does not compress is longer by 0.4 % and its header."""


@dataclass(frozen=True)
class Coder:
    """A plan's codec for the tensors of a schema."""

    codec: Codec
    schema: Schema

    @classmethod
    def of(cls, plan: Plan, schema: Schema) -> "Coder | None":
        """None where the plan sends numbers as they are."""
        return None if plan.codec.name == "none" else cls(plan.codec, schema)

    @property
    def n_bytes(self) -> int:
        """Of what is compressed."""
        return sum(4 * _rows(shape) + math.prod(shape) for shape in self.schema.shapes.values())

    @property
    def most_bytes(self) -> int:
        """Of a payload."""
        return _HASH + self.n_bytes + self.n_bytes // 200 + _SLACK

    def encode(
        self, values: Weights, rng: np.random.Generator, *, sparse: bool = True
    ) -> tuple[bytes, Weights]:
        """The payload, and the values as the other side will read them. `sparse`: of all numbers together
        only the plan's share (`codec.top`), the largest, is told; the others are zeros.

        Raises:
            WireError: a value is not finite, or a tensor is not the schema's.
        """
        least = _threshold(self.schema.check(values), self.codec.top if sparse else 1.0)
        scales, codes, decoded = [], [], {}
        for name in sorted(self.schema.shapes):
            rows = values[name].reshape(_rows(self.schema.shapes[name]), -1)
            rows = np.where(np.abs(rows) >= least, rows, np.float32(0)) if least > 0 else rows
            scale, code = _rounded(rows, self.codec.levels, rng)
            scales.append(scale)
            codes.append(code.reshape(-1))
            decoded[name] = _values(scale, code, values[name].shape)
        return _payload(np.concatenate(scales), np.concatenate(codes)), self._ordered(decoded)

    def decode(self, payload: bytes | bytearray) -> Weights:
        """The values, each finite.

        Raises:
            WireError: it is damaged, longer or shorter than the schema says once expanded, or no codec of
            ours made it.
        """
        scales, codes = self._read(payload)
        decoded, row, number = {}, 0, 0
        for name, shape in sorted(self.schema.shapes.items()):
            n, size = _rows(shape), math.prod(shape)
            code = codes[number : number + size].reshape(n, -1)
            decoded[name] = _values(scales[row : row + n], code, shape)
            row, number = row + n, number + size
        return self._ordered(decoded)

    def rebuilt(self, payload: bytes | bytearray) -> bytes:
        """The payload made anew from what it says: nothing rides along. Raises WireError as `decode` does."""
        return _payload(*self._read(payload))

    def pack(self, payload: bytes) -> ArrayRecord:
        """For a message."""
        return ArrayRecord({CODED: Array("uint8", (len(payload),), CODED, payload)})

    def payload_of(self, record: ArrayRecord) -> bytes:
        """Of a message. Raises WireError if it holds anything else."""
        if set(record) != {CODED} or record[CODED].stype != CODED:
            raise WireError(f"found the arrays {sorted(record)[:5]}, expected {CODED} alone")
        return record[CODED].data

    def _read(self, payload: bytes | bytearray) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
        size = self.n_bytes
        if not _HASH < len(payload) <= self.most_bytes:
            raise WireError(f"found {len(payload)} coded bytes, expected {_HASH} to about {size}")
        frame = bytes(memoryview(payload)[_HASH:])
        if hashlib.sha256(frame).digest() != bytes(payload[:_HASH]):
            raise WireError("the coded update is damaged: its checksum is another")
        try:
            found = zstandard.get_frame_parameters(frame).content_size
            if found != size:
                raise WireError(f"the coded update says that it holds {found} bytes, expected {size}")
            body = zstandard.ZstdDecompressor().decompress(
                frame, max_output_size=size, allow_extra_data=False
            )
        except zstandard.ZstdError as e:
            raise WireError(f"the coded update cannot be expanded: {str(e)[:80]}") from None
        if len(body) != size:
            raise WireError(f"the coded update holds {len(body)} bytes, expected {size}")
        n_rows = sum(_rows(shape) for shape in self.schema.shapes.values())
        scales = np.frombuffer(body, "<f4", n_rows)
        codes = np.frombuffer(body, np.int8, offset=4 * n_rows)
        if not (np.isfinite(scales).all() and (scales >= 0).all()):
            raise WireError("the coded update has a scale that is negative or not finite")
        if len(codes) and max(int(codes.max()), -int(codes.min())) > self.codec.levels:
            raise WireError(f"the coded update has an integer beyond {self.codec.levels}")
        if float(scales.max(initial=0.0)) * self.codec.levels > float(np.finfo(np.float32).max):
            raise WireError("the coded update has a scale beyond float32")
        return scales, codes

    def _ordered(self, values: Weights) -> Weights:
        return {name: values[name] for name in self.schema.shapes}


def _rows(shape: tuple[int, ...]) -> int:
    return shape[0] if len(shape) > 1 else 1


def _threshold(values: Mapping[str, Reals], share: float) -> float:
    """The least absolute value of the largest `share` of all numbers; 0 for all of them."""
    if share >= 1.0:
        return 0.0
    sizes = np.concatenate([np.abs(value).reshape(-1) for value in values.values()])
    kept = max(1, round(share * len(sizes)))
    return float(np.partition(sizes, len(sizes) - kept)[len(sizes) - kept])


def _rounded(
    rows: NDArray[np.float32], levels: int, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Scales (R,) and integers (R, n) of rows (R, n)."""
    scale = (np.abs(rows).max(axis=1, initial=0.0) / np.float32(levels)).astype(np.float32)
    per_unit = np.divide(
        np.float32(1), scale, out=np.zeros_like(scale), where=scale > np.finfo(np.float32).tiny
    )
    scale[per_unit == 0] = 0
    shifted = rows * per_unit[:, None]
    shifted += rng.random(rows.shape, np.float32)
    np.clip(np.floor(shifted, out=shifted), -levels, levels, out=shifted)
    return scale, shifted.astype(np.int8)


def _values(
    scale: NDArray[np.float32], code: NDArray[np.int8], shape: tuple[int, ...]
) -> NDArray[np.float32]:
    """Integers (R, n) times scales (R,), as both sides compute it: one float32 product each."""
    return np.multiply(code, scale[:, None], dtype=np.float32).reshape(shape)


def _payload(scales: NDArray[np.float32], codes: NDArray[np.int8]) -> bytes:
    body = scales.astype("<f4").tobytes() + codes.tobytes()
    frame = zstandard.ZstdCompressor(level=LEVEL, write_content_size=True).compress(body)
    return hashlib.sha256(frame).digest() + frame


LEVEL = 1
"""zstandard's first: it comes within 3 % of the entropy. The next ones find chance repetitions in numbers
that are rounded at random, which cost more than they save."""


def identity(weights: Mapping[str, Reals]) -> str:
    """Hex SHA-256 of a set of weights: what a difference is to, and what it leads to."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode() + b"\0" + np.ascontiguousarray(weights[name], "<f4").tobytes())
    return digest.hexdigest()
