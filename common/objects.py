"""Flower's messages come as trees of objects; here a tree is measured before anything of it unfolds.

Both sides use it: what a hostile site sends must cost the server little, and the other way round.
"""

import json
from collections.abc import Iterator, Mapping, MutableMapping
from typing import cast

from flwr.app import Array, Message
from flwr.app.message.arraychunk import ArrayChunk
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.inflatable.inflatable_object import (
    InflatableObject,
    get_object_body,
    get_object_head_values_from_object_content,
    is_valid_sha256_hash,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents

from common.errors import WireError

PIECE_BYTES = 5 * 2**20  # Flower cuts an array into pieces of this size, our programs into half of it
SPARE_BYTES = 2**20  # for what a message holds beside its tensors
SPARE_OBJECTS = 16  # the message, its records, one array; and a few more
HEAD_BYTES = 1024  # a piece's own head, which names no others, is shorter
DEPTH = 5  # message, records, record, array, piece


def most_objects(most_bytes: int) -> int:
    """How many objects a message of `most_bytes` may have."""
    return SPARE_OBJECTS + 2 * (most_bytes // PIECE_BYTES + 1)


def walk(tree: ObjectTree, most: int) -> Iterator[str]:
    """The ids of a tree of at most `most` nodes, at most DEPTH deep. Raises WireError for any other."""
    branches, n = [(tree, 1)], 0
    while branches:
        node, depth = branches.pop()
        n += 1
        if n > most or depth > DEPTH or len(node.children) > most:
            raise WireError(f"it announces more than {most} objects, or more than {DEPTH} levels")
        if not is_valid_sha256_hash(node.object_id):
            raise WireError("it announces an object whose name is no SHA-256")
        yield node.object_id
        branches += [(child, depth + 1) for child in node.children]


def fold(message: Message) -> tuple[ObjectTree, dict[str, InflatableObject]]:
    """A message's tree, and its objects by their names, those that others name first. The pieces of an array
    were hashed when it was cut: Flower would hash them once more for each."""
    objects: dict[str, InflatableObject] = {}

    def branch(one: InflatableObject) -> ObjectTree:
        if isinstance(one, Array):
            objects.update(one.slice_array())
            children = [ObjectTree(object_id=piece) for piece, _ in one.children.items()]
        else:
            children = [branch(child) for child in (one.children or {}).values()]
        objects[one.object_id] = one
        return ObjectTree(object_id=one.object_id, children=children)

    return branch(message), objects


def unfold(root: str, contents: MutableMapping[str, bytes], most_bytes: int) -> Message:
    """The message whose objects are `contents` by id, with `root` as its own. They are taken out of it.

    Arrays are put together here, from one piece after the other: Flower would hold them four times.

    Raises:
        WireError: it unfolds to more than `most_bytes` of tensors, or is no message.
    """
    try:
        arrays = _arrays(root, contents)
        named: dict[str, InflatableObject] = {key: _named(key, content) for key, content in arrays.items()}
        message = inflate_object_from_contents(root, cast(dict[str, bytes], contents), objects=named)
        if not isinstance(message, Message):
            raise WireError("it is not a message")
        _fill(message, arrays, contents, most_bytes)
    except WireError:
        raise
    except Exception:  # what a hostile peer may make Flower's decoders raise is not known
        raise WireError("it cannot be decoded") from None
    message.metadata.__dict__["_message_id"] = root
    return message


def _arrays(root: str, contents: Mapping[str, bytes]) -> dict[str, bytes]:
    """The arrays under `root` by id. Their pieces, which are large and may lie on a disk, are not looked
    at.

    Raises:
        WireError: the rest has more than SPARE_BYTES. Of numbers and texts Flower makes up to 35 times as
        much memory as was sent.
    """
    found: dict[str, bytes] = {}
    seen, left, spare = {root}, [root], SPARE_BYTES
    while left:
        content = contents[key := left.pop()]
        if (spare := spare - len(content)) < 0:
            raise WireError(f"it holds more than {SPARE_BYTES} bytes beside its tensors")
        kind, children, _ = get_object_head_values_from_object_content(content)
        if kind == Array.__qualname__:
            found[key] = content
            continue
        left += set(children) - seen
        seen |= set(children)
    return found


def _named(key: str, content: bytes) -> Array:
    """An array with its own name in place of its bytes."""
    about = json.loads(get_object_body(content, Array))
    return Array(about["dtype"], tuple(about["shape"]), about["stype"], key.encode())


def _fill(
    message: Message, arrays: Mapping[str, bytes], contents: Mapping[str, bytes], most_bytes: int
) -> None:
    """Give the message's arrays their bytes. One that names a piece again and again, or several that name the
    same, unfold to more than was sent."""
    left = most_bytes + SPARE_BYTES
    records = message.content.array_records.values() if message.has_content() else ()
    for array in (array for record in records for array in record.values()):
        content, data = arrays[array.data.decode()], bytearray()
        pieces = get_object_head_values_from_object_content(content)[1]
        numbers = json.loads(get_object_body(content, Array))["arraychunk_ids"]
        if len(numbers) > most_objects(most_bytes):
            raise WireError(f"it unfolds to more than the agreed {most_bytes} bytes")
        for number in numbers:
            data += _body_of_piece(contents[pieces[number]])
            if len(data) > left:
                raise WireError(f"it unfolds to more than the agreed {most_bytes} bytes")
        left -= len(data)
        array.data = cast(bytes, data)  # as bytes it would be a second copy


def _body_of_piece(content: bytes) -> memoryview:
    """What `get_object_body` gives, not copied."""
    start = content[:HEAD_BYTES]
    return memoryview(content)[len(start) - len(get_object_body(start, ArrayChunk)) :]
