"""Trees against a plain recursion, and messages that unfold to more than they seem."""

import json

import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.task_identity import TaskIdentity
from hypothesis import given
from hypothesis import strategies as st

from common.errors import WireError
from common.objects import DEPTH, PIECE_BYTES, SPARE_BYTES, fold, most_objects, unfold, walk

NAMES = st.integers(0, 5).map(lambda n: f"{n:064x}")
TREES = st.recursive(
    NAMES.map(lambda name: ObjectTree(object_id=name)),
    lambda children: st.builds(
        lambda name, below: ObjectTree(object_id=name, children=below), NAMES, st.lists(children, max_size=4)
    ),
    max_leaves=30,
)


def count(tree):
    return 1 + sum(map(count, tree.children))


def depth(tree):
    return 1 + max(map(depth, tree.children), default=0)


def ids(tree):
    return {tree.object_id}.union(*map(ids, tree.children))


@given(TREES, st.integers(1, 40))
def test_a_tree_is_taken_exactly_if_it_is_small_enough(tree, most):
    if count(tree) <= most and depth(tree) <= DEPTH:
        found = list(walk(tree, most))
        assert set(found) == ids(tree)
        assert len(found) == count(tree)
    else:
        with pytest.raises(WireError, match=f"more than {most} objects, or more than {DEPTH} levels"):
            list(walk(tree, most))


@pytest.mark.parametrize("name", ["", "0" * 63, "g" * 64, "\x1b[31m" * 16])
def test_a_name_that_is_no_hash_is_refused(name):
    with pytest.raises(WireError, match="no SHA-256"):
        list(walk(ObjectTree(object_id=name), 9))


@pytest.fixture(autouse=True)
def _identity():
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1


def message(n_bytes=100):
    """Always the same: no time of day in it."""
    data = bytes(i % 251 for i in range(n_bytes))
    arrays = ArrayRecord({"safetensors": Array("uint8", (n_bytes,), "safetensors", data)})
    made = Message(RecordDict({"arrays": arrays, "config": ConfigRecord({"a": 1})}), 7, "train")
    made.metadata.__dict__["_created_at"] = 1.8e9
    return made


def contents_of(message):
    return {object_id: o.deflate() for object_id, o in get_all_nested_objects(message).items()}


@pytest.mark.parametrize("n_bytes", [0, 1, 100, PIECE_BYTES, 2 * PIECE_BYTES + 1])
def test_what_flower_takes_apart_is_put_together_and_small_enough(n_bytes):
    sent = message(n_bytes)
    assert len(list(walk(get_object_tree(sent), most_objects(n_bytes)))) <= most_objects(n_bytes)
    got = unfold(sent.object_id, contents_of(sent), n_bytes)
    assert got.content == sent.content
    assert got.metadata.message_id == sent.object_id


@pytest.mark.parametrize(
    "data", [b"", b"one", bytes(2 * PIECE_BYTES + 1), bytes(PIECE_BYTES) + b"x" * PIECE_BYTES]
)
def test_a_message_is_folded_as_flower_takes_it_apart(data):
    """Of an array whose pieces are alike (zeros), each is named once."""
    arrays = ArrayRecord({"packed": Array("uint8", (len(data),), "packed", data)})
    made = Message(RecordDict({"arrays": arrays, "config": ConfigRecord({"a": 1})}), 7, "train")
    made.metadata.__dict__["_created_at"] = 1.8e9
    tree, objects = fold(made)
    assert tree == get_object_tree(made)
    assert {name: one.deflate() for name, one in objects.items()} == contents_of(made)
    assert unfold(tree.object_id, contents_of(made), len(data)).content == made.content


def test_a_piece_that_is_named_again_and_again_does_not_unfold():
    sent = message(2**19)
    contents = contents_of(sent)
    (array,) = (i for i, content in contents.items() if content.startswith(b"Array "))
    head, body = contents[array].split(b"\x00", 1)
    body = json.dumps({**json.loads(body), "arraychunk_ids": [0] * 4}).encode()
    kind, children, _ = head.decode().split(" ")
    contents[array] = f"{kind} {children} {len(body)}".encode() + b"\x00" + body
    with pytest.raises(WireError, match="unfolds to more than the agreed 524288 bytes"):
        unfold(sent.object_id, contents, 2**19)


@given(st.data())
def test_whatever_is_changed_in_a_message_it_is_a_message_or_refused(data):
    sent = message()
    contents = contents_of(sent)
    victim = data.draw(st.sampled_from(sorted(contents, key=contents.get)))
    old = contents[victim]
    at = data.draw(st.integers(0, len(old)))
    contents[victim] = old[:at] + data.draw(st.binary(max_size=40)) + old[at + data.draw(st.integers(0, 9)) :]
    try:
        assert isinstance(unfold(sent.object_id, contents, 100), Message)
    except WireError as e:
        assert len(str(e)) < 100


def test_an_object_that_is_no_message_is_refused():
    config = ConfigRecord({"a": 1})
    with pytest.raises(WireError, match="not a message"):
        unfold(config.object_id, {config.object_id: config.deflate()}, 0)


def test_what_is_beside_the_tensors_is_short_before_it_is_unfolded():
    """Of numbers Flower makes up to 35 times as much memory as was sent, and a second for each megabyte."""

    def contents(n):
        message = Message(RecordDict({"c": ConfigRecord({"text": "x" * n})}), 1, "train")
        tree, objects = fold(message)
        return tree.object_id, {key: one.deflate() for key, one in objects.items()}

    root, some = contents(SPARE_BYTES - 2000)
    assert len(unfold(root, some, 2**30).content["c"]["text"]) == SPARE_BYTES - 2000
    root, more = contents(SPARE_BYTES)
    with pytest.raises(WireError, match="bytes beside its tensors"):
        unfold(root, more, 2**30)
