"""The egress check through the gate: agreed tensors and numbers leave, and nothing else does."""

import hashlib
import math

import numpy as np
import pytest
import zstandard
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from safetensors.numpy import save

from client.governance.egress import check_reply
from client.governance.policy import Policy
from common import wire
from common.audit import read_entries
from common.codec import Coder
from common.credentials import make_key
from common.errors import RefusedError, WireError
from common.plan import Aggregation, Codec
from common.results.form import to_text
from common.secure import messages as secure
from common.secure.keys import SEALED_BYTES, Moment, make_keys
from common.secure.levels import n_integers, widths
from common.secure.ring import FULL
from common.secure.shamir import SHARE_BYTES
from tests.helpers.gate_messages import PLAN, POLICY, WEIGHTS, numbers, reply, request


def test_an_honest_update_leaves_unchanged(approved):
    admitted = approved.admit(request(), POLICY)
    answer = approved.release(admitted, reply(admitted.request), POLICY)
    update = admitted.schema.unpack(wire.get_arrays(answer.content))
    assert all(np.array_equal(update[k], WEIGHTS[k]) for k in WEIGHTS)
    assert wire.check_numbers(answer.content, wire.TRAIN_NUMBERS)[wire.LOSS] == 0.5


def tensors(**changes):
    data = save({k: v for k, v in {**WEIGHTS, **changes}.items() if v is not None})
    return ArrayRecord({wire.PACKED: Array("uint8", (len(data),), wire.PACKED, data)})


def with_passenger():
    record = wire.pack(WEIGHTS)
    record["images"] = Array(np.zeros((64, 64), np.float32))
    return record


HOSTILE = {
    "an extra tensor": {"arrays": tensors(patient=np.zeros(4, np.float32))},
    "a second array": {"arrays": with_passenger()},
    "a missing tensor": {"arrays": tensors(scale=None)},
    "another shape": {"arrays": tensors(scale=np.zeros(7, np.float32))},
    "another type": {"arrays": tensors(scale=np.zeros(1, np.float64))},
    "NaN": {"arrays": tensors(scale=np.full(1, np.nan, np.float32))},
    "infinity": {"arrays": tensors(scale=np.full(1, -np.inf, np.float32))},
    "a number that the plan does not have": {"metrics": numbers(age=71.0)},
    "a list of numbers": {"metrics": numbers(**{wire.LOSS: [1.0] * 100})},
    "an infinite number": {"metrics": numbers(**{wire.LOSS: math.inf})},
    "an extra record": {"extra": ConfigRecord({"name": "Smith"})},
    "too few patients": {"metrics": numbers(**{wire.N_EXAMPLES: 9})},
}


@pytest.mark.parametrize("how", HOSTILE)
def test_nothing_but_what_was_agreed_leaves(approved, how, tmp_path):
    admitted = approved.admit(request(), POLICY)
    answer = approved.release(admitted, reply(admitted.request, **HOSTILE[how]), POLICY)
    assert answer.has_error()
    assert "Smith" not in answer.error.reason
    assert list(read_entries(tmp_path / "audit.log"))[-1].event == "refused"


def coded(plan, release, arrays=None, kind="train", **texts):
    """What leaves under a plan with a codec."""
    schema = wire.Schema({name: w.shape for name, w in WEIGHTS.items()})
    asked = request(kind)
    if kind == "train":
        return release(kind, reply(asked, arrays).content, schema, POLICY, plan)
    counts = MetricRecord({**dict.fromkeys(wire.query_numbers(plan.findings), 40), wire.N_EXAMPLES: 40})
    config = ConfigRecord({wire.SITE: "here", wire.DEVICE: "cpu", **texts})
    return release(kind, RecordDict({wire.CONFIG: config, wire.METRICS: counts}), schema, POLICY, plan)


def test_a_coded_update_leaves_made_anew_and_nothing_beside_it():
    plan = PLAN.model_copy(update={"codec": Codec(name="int4")})
    coder = Coder.of(plan, wire.Schema({name: w.shape for name, w in WEIGHTS.items()}))
    payload, _ = coder.encode(WEIGHTS, np.random.default_rng(1))
    body = zstandard.ZstdDecompressor().decompress(payload[32:])
    frame = zstandard.ZstdCompressor(level=19).compress(body)
    left = coded(plan, check_reply, coder.pack(hashlib.sha256(frame).digest() + frame))
    assert coder.payload_of(wire.get_arrays(left)) == payload
    passenger = coder.pack(payload)
    passenger["images"] = Array(np.zeros((8, 8), np.float32))
    for wrong in (wire.pack(WEIGHTS), coder.pack(payload + b"Smith"), coder.pack(payload[:-1]), passenger):
        with pytest.raises(WireError):
            coded(plan, check_reply, wrong)
    with pytest.raises(WireError, match="expected safetensors"):  # and without a codec it is no update
        coded(PLAN, check_reply, coder.pack(payload))


def test_what_a_site_holds_is_told_under_a_codec_alone_and_is_a_hash():
    plan = PLAN.model_copy(update={"codec": Codec(name="int4")})
    for holds in ("", "0" * 64):
        left = coded(plan, check_reply, kind="query", **{wire.HOLDS: holds})
        assert wire.get_text(left, wire.HOLDS) == holds
    with pytest.raises(WireError, match="not a SHA-256"):
        coded(plan, check_reply, kind="query", **{wire.HOLDS: "Smith"})
    with pytest.raises(WireError, match="missing"):
        coded(plan, check_reply, kind="query")
    with pytest.raises(WireError, match="other texts"):
        coded(PLAN, check_reply, kind="query", **{wire.HOLDS: "0" * 64})


def test_metrics_stay_if_the_policy_says_so(approved):
    closed = Policy(min_patients=10, metrics=False)
    admitted = approved.admit(request(), closed)
    left = wire.check_numbers(
        approved.release(admitted, reply(admitted.request), closed).content, wire.TRAIN_NUMBERS
    )
    assert math.isnan(left[wire.LOSS])
    with pytest.raises(RefusedError, match="keeps its metrics"):
        approved.admit(request("evaluate"), closed)


def test_small_counts_are_withheld_and_the_sites_name_is_not(approved):
    admitted = approved.admit(request("query"), POLICY)
    told = {
        wire.N_TRAIN: 40,
        wire.N_VALIDATION: 9,
        wire.N_TEST: 10,
        "positive:pneumonia": 15,
        "negative:pneumonia": 25,
    }
    counts = MetricRecord(
        {wire.N_EXAMPLES: 40, **dict(zip(wire.LENGTHS, (10, 30, 0, 0), strict=True)), **told}
    )
    about = ConfigRecord({wire.SITE: "st-mary", wire.DEVICE: "cpu"})
    answer = approved.release(
        admitted,
        Message(RecordDict({wire.CONFIG: about, wire.METRICS: counts}), reply_to=admitted.request),
        POLICY,
    )
    found = wire.check_numbers(answer.content, wire.query_numbers(PLAN.findings))
    assert math.isnan(found[wire.N_VALIDATION])
    assert (found[wire.N_TRAIN], found[wire.N_TEST], found["positive:pneumonia"], found["length-9+"]) == (
        40,
        10,
        15,
        0,
    )
    more = ConfigRecord({wire.SITE: "st-mary", wire.DEVICE: "cpu", "note": "Smith"})
    assert approved.release(
        admitted,
        Message(RecordDict({wire.CONFIG: more, wire.METRICS: counts}), reply_to=admitted.request),
        POLICY,
    ).has_error()


@pytest.mark.parametrize(
    ("told", "withheld"),
    [
        ({"positive:pneumonia": 9, "negative:pneumonia": 31}, {"positive:pneumonia", "negative:pneumonia"}),
        (
            {"positive:pneumonia": 15, "negative:pneumonia": 20},
            {"positive:pneumonia", "negative:pneumonia"},
        ),  # 5 are unknown
        ({"positive:pneumonia": 0, "negative:pneumonia": 40}, set()),
        ({"length-1": 1, "length-2-4": 39}, set(wire.LENGTHS)),
        ({"length-1": 20, "length-2-4": 20, "length-9+": 0}, set()),
        ({wire.N_TEST: 3}, {wire.N_TEST}),
    ],
)
def test_no_small_count_can_be_worked_out_from_what_is_told(approved, told, withheld):
    admitted = approved.admit(request("query"), POLICY)
    honest = {wire.N_TRAIN: 40, wire.N_VALIDATION: 10, wire.N_TEST: 10, "positive:pneumonia": 20, "negative:pneumonia": 20,
              "length-1": 40, "length-2-4": 0, "length-5-8": 0, "length-9+": 0}  # fmt: skip
    content = RecordDict({
        wire.CONFIG: ConfigRecord({wire.SITE: "st-mary", wire.DEVICE: "cpu"}),
        wire.METRICS: MetricRecord({wire.N_EXAMPLES: 40, **honest, **told}),
    })  # fmt: skip
    answer = approved.release(admitted, Message(content, reply_to=admitted.request), POLICY)
    found = wire.check_numbers(answer.content, wire.query_numbers(PLAN.findings))
    assert {name for name, value in found.items() if math.isnan(value)} == withheld


@pytest.mark.parametrize(
    ("code", "left"),
    [
        (wire.SITE_REFUSES, "plan 12"),
        (wire.SITE_FAILS, "its own log"),
        (wire.SITE_CRASHED, "its own log"),
        (99, "its own log"),
    ],
)
def test_of_an_error_only_refusals_are_told(approved, code, left):
    admitted = approved.admit(request(), POLICY)
    answer = approved.release(
        admitted, Message(Error(code, "plan 12: patient Smith"), reply_to=admitted.request), POLICY
    )
    assert left in answer.error.reason
    assert ("Smith" in answer.error.reason) is (code == wire.SITE_REFUSES)


SECURE = PLAN.model_copy(update={"aggregation": Aggregation(secure=True, threshold=2)})
CODED = SECURE.model_copy(update={"codec": Codec(name="int4")})
SHAPE = wire.Schema({name: w.shape for name, w in WEIGHTS.items()})


def told(kind, text, n=50, **more):
    """What leaves at a stage of secure aggregation."""
    records = {wire.CONFIG: ConfigRecord({secure.SAID_AT[kind]: text, **more})}
    if kind == secure.KEYS:
        records[wire.METRICS] = MetricRecord({wire.N_EXAMPLES: n})
    return check_reply(kind, RecordDict(records), SHAPE, POLICY, SECURE)


ADVERT = to_text(
    make_keys(make_key(), "here", Moment(SECURE.sha256, "r1", 1))[1],
)
STAGES = {
    secure.KEYS: ADVERT,
    secure.SHARES: to_text(secure.Sealed(shares={"north": "ab" * SEALED_BYTES})),
    secure.AGREE: "ab" * 100,
    secure.UNMASK: to_text(secure.Revealed(shares={"north": "ab" * SHARE_BYTES})),
}


@pytest.mark.parametrize("kind", STAGES)
def test_a_stage_of_secure_aggregation_leaves_by_its_shape(kind):
    answer = told(kind, STAGES[kind])
    assert answer.config_records[wire.CONFIG][secure.SAID_AT[kind]] == STAGES[kind]
    with pytest.raises(WireError):
        told(kind, STAGES[kind], name="Smith")
    with pytest.raises(WireError):
        told(kind, '{"patient": "Smith"}')
    with pytest.raises(WireError, match="found the records"):
        check_reply(kind, RecordDict({wire.ARRAYS: wire.pack(WEIGHTS)}), SHAPE, POLICY, SECURE)


def test_keys_are_not_shown_for_too_few_patients():
    with pytest.raises(RefusedError, match="fewer than 10 patients"):
        told(secure.KEYS, ADVERT, n=9)


def test_under_masks_nothing_but_a_masked_update_of_its_length_leaves():
    n = sum(w.size for w in WEIGHTS.values())
    masked = secure.pack_masked(np.arange(n, dtype=np.uint64), FULL)
    answer = check_reply("train", reply(request(), masked).content, SHAPE, POLICY, SECURE)
    np.testing.assert_array_equal(
        secure.unpack_masked(wire.get_arrays(answer), n, FULL),
        np.arange(n, dtype=np.uint64),
    )
    for arrays in (wire.pack(WEIGHTS), secure.pack_masked(np.zeros(n + 1, np.uint64), FULL)):
        with pytest.raises(WireError):
            check_reply("train", reply(request(), arrays).content, SHAPE, POLICY, SECURE)


@pytest.mark.parametrize("bits", widths(CODED))
def test_masked_integers_of_few_bits_leave_and_nothing_beside_them(bits):
    n = n_integers(CODED, SHAPE.shapes)
    masked = secure.pack_masked(np.arange(n, dtype=np.uint64), bits)
    answer = check_reply("train", reply(request(), masked).content, SHAPE, POLICY, CODED)
    np.testing.assert_array_equal(
        secure.unpack_masked(wire.get_arrays(answer), n, bits), np.arange(n) % 2**bits
    )
    longer = secure.pack_masked(np.zeros(n + 8, np.uint64), bits)
    for arrays in (longer, secure.pack_masked(np.zeros(n, np.uint64), FULL)):
        with pytest.raises(WireError, match="bytes of a masked update"):
            check_reply("train", reply(request(), arrays).content, SHAPE, POLICY, CODED)
