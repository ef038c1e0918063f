"""A message and its small objects in one request or answer: Flower moves each object by a request of its own,
which takes longer than what is in it.

A packet is a row of parts, each with its length before it: four bytes, big-endian. The first part is what
Flower's call takes or answers, the others are objects, whose names are their SHA-256. A site says by HEADER
that it takes one as the answer where it asks for messages; a server that knows packets answers with one
(MEDIA_TYPE), and takes replies in them from then on, under the same header. One of before passes it over.
"""

import hashlib
from collections.abc import Iterable

from common.errors import WireError

HEADER = "pneumofed-packets"
MEDIA_TYPE = "application/x-pneumofed-packet"
SMALL_BYTES = 64 * 2**10
"""An object that is larger goes by itself."""
MOST_BYTES = 2**20
"""Of all objects in a packet."""
MOST_OBJECTS = 64
_LENGTH = 4


def pack(first: bytes, objects: Iterable[bytes]) -> bytes:
    """A packet; objects that are too large, or more than fit, are left out."""
    parts, left = [first], MOST_BYTES
    for content in objects:
        if len(content) <= min(SMALL_BYTES, left) and len(parts) <= MOST_OBJECTS:
            parts.append(content)
            left -= len(content)
    return b"".join(len(part).to_bytes(_LENGTH, "big") + part for part in parts)


def unpack(packet: bytes) -> tuple[bytes, dict[str, bytes]]:
    """The first part, and the objects by their names.

    Raises:
        WireError: it is no packet, or has more objects, or larger ones, than `pack` puts into one.
    """
    parts: list[bytes] = []
    at = 0
    while at < len(packet) and len(parts) <= MOST_OBJECTS:
        start = at + _LENGTH
        at = start + int.from_bytes(packet[at:start], "big")
        parts.append(packet[start:at])
    objects = parts[1:]
    if not parts or at != len(packet) or sum(map(len, objects)) > MOST_BYTES:
        raise WireError("it is not a readable packet")
    if any(len(content) > SMALL_BYTES for content in objects):
        raise WireError("it is not a readable packet")
    return parts[0], {hashlib.sha256(content).hexdigest(): content for content in objects}
