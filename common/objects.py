"""Flower's messages come as trees of objects; here a tree is measured before anything of it unfolds.

Both sides use it: what a hostile site sends must cost the server little, and the other way round.
"""

import json
from collections.abc import Iterator, Mapping

from flwr.app import Array, Message
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.inflatable.inflatable_object import (
    get_object_body,
    get_object_head_values_from_object_content,
    is_valid_sha256_hash,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents

from common.errors import WireError

PIECE_BYTES = 5 * 2**20  # Flower cuts an array into pieces of this size
SPARE_BYTES = 2**20  # for what a message holds beside its tensors
SPARE_OBJECTS = 16  # the message, its records, one array; and a few more
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


def unfold(root: str, contents: dict[str, bytes], most_bytes: int) -> Message:
    """The message whose objects are `contents` by id, with `root` as its own. They are taken out of it.

    Raises:
        WireError: it unfolds to more than `most_bytes` of tensors, or is no message.
    """
    try:
        for content in contents.values():
            _require_small(content, contents, most_bytes)
        message = inflate_object_from_contents(root, contents)
    except WireError:
        raise
    except Exception:  # what a hostile peer may make Flower's decoders raise is not known
        raise WireError("it cannot be decoded") from None
    if not isinstance(message, Message):
        raise WireError("it is not a message")
    message.metadata.__dict__["_message_id"] = root
    return message


def _require_small(content: bytes, contents: Mapping[str, bytes], most_bytes: int) -> None:
    """An array that names a piece again and again unfolds to more than was sent."""
    kind, pieces, _ = get_object_head_values_from_object_content(content)
    if kind != Array.__qualname__:
        return
    numbers = json.loads(get_object_body(content, Array))["arraychunk_ids"]
    if (
        len(numbers) > most_objects(most_bytes)
        or sum(len(contents[pieces[i]]) for i in numbers) > most_bytes + SPARE_BYTES
    ):
        raise WireError(f"it unfolds to more than the agreed {most_bytes} bytes")
