"""A site's end of the codec: it works with no weights but those that the server names, and owes what it did not tell."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, RecordDict

from client.coded import HELD, CodedRun, Sending
from common import wire
from common.aggregate import apply_update
from common.codec import Coder, identity
from common.errors import RefusedError, WireError
from common.models.pretrained import starting_weights
from tests.helpers.plans import small_plan

PLAN = small_plan(codec={"name": "int4"})
START = starting_weights(PLAN, None)
SCHEMA = wire.Schema({name: w.shape for name, w in START.items()})
CODER = Coder.of(PLAN, SCHEMA)
COHORT = "c" * 64


def drawn(seed):
    rng = np.random.default_rng(seed)
    return {name: rng.normal(0, 0.1, w.shape).astype(np.float32) for name, w in START.items()}


def to(round, answered):
    return Sending("here", 5, round, answered)


def coded(whole, rng):
    payload, told = CODER.encode(whole, rng)
    return CODER.pack(payload), told


def request(weights, arrays=None, base="", named=None):
    config = ConfigRecord({wire.WEIGHTS: named or identity(weights), **({wire.BASE: base} if base else {})})
    return RecordDict({wire.CONFIG: config, wire.ARRAYS: arrays or ArrayRecord()})


def step(before, seed):
    """(weights after a step, the coded step)"""
    payload, told = CODER.encode(drawn(seed), np.random.default_rng(seed), sparse=False)
    return apply_update(before, told), CODER.pack(payload)


def same(one, other):
    return list(one) == list(other) and all(np.array_equal(one[k], other[k]) for k in one)


@pytest.fixture
def here(tmp_path):
    return CodedRun(CODER, tmp_path / "run", lambda: START, COHORT)


def test_it_begins_with_the_plan_s_weights_and_follows_step_by_step(here, tmp_path):
    assert here.holds() == identity(START)
    assert same(here.received(request(START)), START)
    assert not (tmp_path / "run").exists()  # nothing came that is not in the plan
    weights = START
    for seed in (1, 2, 3):
        after, arrays = step(weights, seed)
        assert same(here.received(request(after, arrays, identity(weights))), after)
        again = CodedRun(CODER, tmp_path / "run", lambda: START, COHORT)  # a restart
        assert again.holds() == identity(after)
        assert same(again.received(request(after)), after)
        weights = after


def test_whole_weights_are_taken_whatever_lies_here(here):
    other = drawn(5)
    assert same(here.received(request(other, wire.pack(other))), other)
    assert same(here.received(request(START, wire.pack(START))), START)  # as a server that was put back


@pytest.mark.parametrize("spoilt", [b"", b"rubbish", None])
def test_what_lies_here_and_cannot_be_read_comes_whole(tmp_path, spoilt):
    here = CodedRun(CODER, tmp_path / "run", dict, COHORT)
    first = drawn(1)
    here.received(request(first, wire.pack(first)))
    if spoilt is None:
        (tmp_path / "run" / HELD).unlink()
    else:
        (tmp_path / "run" / HELD).write_bytes(spoilt)
    assert here.holds() == ""
    after, arrays = step(first, 2)
    for lacking in (request(after, arrays, identity(first)), request(first), request(after)):
        with pytest.raises(WireError, match="does not hold the weights"):
            here.received(lacking)
    assert same(here.received(request(after, wire.pack(after))), after)


LIES = {
    "other weights under the name": lambda a, arrays: request(a, wire.pack(drawn(9))),
    "a step that leads elsewhere": lambda a, arrays: request(a, step(START, 9)[1], identity(START)),
    "a step from elsewhere": lambda a, arrays: request(a, arrays, identity(drawn(9))),
    "a step from nowhere": lambda a, arrays: request(a, arrays),
    "nothing": lambda a, arrays: request(a),
    "no name": lambda a, arrays: request(a, wire.pack(a), named="x"),
    "another model's tensors": lambda a, arrays: request(a, wire.pack({"scale": a["scale"]})),
    "a damaged step": lambda a, arrays: request(
        a, CODER.pack(CODER.payload_of(arrays)[:-1] + b"x"), identity(START)
    ),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_a_server_that_lies_about_weights_is_refused_and_changes_nothing(here, lie):
    after, arrays = step(START, 1)
    with pytest.raises(WireError):
        here.received(lie(after, arrays))
    assert here.holds() == identity(START)
    assert same(here.received(request(after, arrays, identity(START))), after)


def test_asked_for_a_round_again_it_sends_the_same(here, tmp_path):
    sent = [here.sent(drawn(k), to(k, k - 1), coded) for k in (1, 2, 3)]
    again = CodedRun(CODER, tmp_path / "run", lambda: START, COHORT).sent(drawn(3), to(3, 2), coded)
    assert CODER.payload_of(again) == CODER.payload_of(sent[2])
    fresh = CodedRun(CODER, tmp_path / "other", lambda: START, COHORT).sent(drawn(3), to(3, 2), coded)
    assert CODER.payload_of(fresh) != CODER.payload_of(sent[2])  # that one owes nothing


def test_of_a_cohort_that_was_changed_nothing_is_owed_any_more(here, tmp_path):
    """Somebody was forgotten: what training on them left to be told does not leave with the next update."""
    here.sent(drawn(1), to(1, 0), coded)
    changed = CodedRun(CODER, tmp_path / "run", lambda: START, "d" * 64).sent(drawn(2), to(2, 1), coded)
    fresh = CodedRun(CODER, tmp_path / "fresh", lambda: START, "d" * 64).sent(drawn(2), to(2, 1), coded)
    assert CODER.payload_of(changed) == CODER.payload_of(fresh)
    assert [folder.name for folder in (tmp_path / "run" / "owed").iterdir()] == ["d" * 16]


def test_what_is_told_and_owed_is_what_was_trained(here):
    told, trained = [], []
    for k in range(1, 30):
        update = drawn(k)
        trained.append(update)
        told.append(CODER.decode(CODER.payload_of(here.sent(update, to(k, k - 1), coded))))
    for name in START:
        off = sum(t[name].astype(np.float64) for t in told) - sum(u[name] for u in trained)
        assert np.abs(off).max() < 0.3  # one step of rounding, whatever the number of rounds


def test_of_an_update_that_never_arrived_nothing_leaves_with_the_next(tmp_path):
    """It may have been kept back: what coding put off of it left a round later."""
    here = CodedRun(CODER, tmp_path / "run", lambda: START, COHORT)
    here.sent(drawn(1), to(1, 0), coded)
    here.sent(drawn(2), to(2, 1), coded)  # kept back
    after = here.sent(drawn(3), to(3, 1), coded)
    fresh = CodedRun(CODER, tmp_path / "fresh", lambda: START, COHORT)
    fresh.sent(drawn(1), to(1, 0), coded)
    assert after.object_id == fresh.sent(drawn(3), to(3, 1), coded).object_id


def test_an_older_rest_of_a_copy_that_was_put_back_does_not_leave_twice(tmp_path):
    here = CodedRun(CODER, tmp_path / "run", lambda: START, COHORT)
    here.sent(drawn(1), to(1, 0), coded)
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    here.sent(drawn(2), to(2, 1), coded)
    restored = CodedRun(CODER, tmp_path / "copy", lambda: START, COHORT).sent(drawn(3), to(3, 2), coded)
    fresh = CodedRun(CODER, tmp_path / "fresh", lambda: START, COHORT).sent(drawn(3), to(3, 0), coded)
    assert restored.object_id == fresh.object_id


def test_what_is_owed_stays_behind_where_it_may_not_go_along(here):
    here.sent(drawn(1), to(1, 0), coded)
    told = here.sent(drawn(2), replace(to(2, 1), carries=False), lambda whole, rng: (whole, whole))
    assert same(told, drawn(2))


def test_under_masks_what_is_owed_is_not_left_out_in_silence(here):
    """A server that says it has what a site never sent would have it forget what it owes."""
    here.require_newest(0)
    here.sent(drawn(1), to(1, 0), coded)
    here.require_newest(0)
    here.require_newest(1)
    with pytest.raises(RefusedError, match="update of round 3, here lies what it owes of round 1"):
        here.require_newest(3)
    other = CodedRun(CODER, here.folder, here.start, "d" * 64)  # of a patient who was forgotten
    other.require_newest(1)
