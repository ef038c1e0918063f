"""The server sums what it cannot read: the same bits as without masks, whoever goes away, and no lie is helped."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Error, Message

from client.app import app
from client.governance.peers import Peers
from client.methods.memory import SiteMemory
from common import wire
from common.credentials import make_key, read_key, write_key
from common.errors import RunError
from common.models import build_model
from common.results.rounds import UPDATE_NORM
from common.secure import messages as secure
from common.secure.keys import (
    _SIGNED,
    SEALED_BYTES,
    Advert,
    Moment,
    fingerprint_of,
    identity_of,
    not_from,
)
from common.secure.levels import bounded, narrow_bits
from common.secure.ring import FULL
from server.observer import Silent
from server.rounds import RoundLoop
from simulation.grid import SequentialGrid
from tests.helpers.plans import small_plan
from tests.helpers.secure import Between, secure_plan, with_identities

HALF = {"quorum": 0.5}


def run(plan, grid, folder):
    model = build_model(plan)
    loop = RoundLoop(grid, plan, wire.Schema.exchanged(plan, model), folder, Silent())
    start = wire.get_weights(model)
    if plan.strategy.method.control:
        start |= {f"{wire.CONTROL}{name}": np.zeros_like(w) for name, w in start.items()}
    return loop.run(start)


def same(found, expected):
    return (
        all(np.array_equal(found[name], expected[name]) for name in expected)
        and found.keys() == expected.keys()
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"strategy": {"name": "FedAdam"}},
        {"strategy": {"name": "FedBN"}},
        {
            "strategy": {"name": "SCAFFOLD"},
            "training": {"momentum": 0.0, "batch_size": 8, "learning_rate": 0.05},
        },
    ],
    ids=["FedAvg", "FedAdam", "FedBN", "SCAFFOLD"],
)
def test_the_weights_are_those_of_the_run_without_masks(federation, tmp_path, changes):
    plan, plain = secure_plan(rounds=2, **changes), small_plan(rounds=2, **changes)
    masked = run(plan, Between(with_identities(federation(plan), tmp_path / "ids")), tmp_path / "a")
    nodes = [{**node, "memory": str(tmp_path / "plain" / node["site"])} for node in federation(plain)]
    expected = run(plain, SequentialGrid(app, nodes), tmp_path / "b")
    assert same(masked.weights, expected.weights)
    report = masked.history[-1]
    assert sorted(report.sites) == ["site-0", "site-1", "site-2"]
    assert all(np.isnan(numbers[UPDATE_NORM]) for numbers in report.sites.values())


@pytest.mark.parametrize(
    "changes",
    [
        {"codec": {"name": "int8"}},
        pytest.param({"codec": {"name": "int4"}, "strategy": {"name": "FedBN"}}, marks=pytest.mark.slow),
        pytest.param(
            {
                "codec": {"name": "int8"},
                "strategy": {"name": "SCAFFOLD"},
                "training": {"momentum": 0.0, "batch_size": 8, "learning_rate": 0.05},
            },
            marks=pytest.mark.slow,
        ),
    ],
    ids=["FedAvg", "FedBN", "SCAFFOLD"],
)
def test_with_a_codec_masks_change_no_bit_and_few_bits_cross(federation, tmp_path, monkeypatch, changes):
    """The run again, with masks of zeros; it stops after a round, and goes on from its checkpoint."""
    plan = secure_plan(rounds=3, **changes)
    nodes = with_identities(federation(plan), tmp_path / "ids")
    grid = Between(nodes)
    masked = run(plan, grid, tmp_path / "a")
    n = sum(w.size for w in masked.weights.values()) + len(
        bounded({name: w.shape for name, w in masked.weights.items()})
    )
    sent = [len(data) for kind, arrays in grid.passed if kind == "train" for data in arrays]
    assert sent == [4 * n] * 3 + [(n * narrow_bits(plan) + 7) // 8] * 6
    nothing = lambda vector, key, bits: None  # noqa: E731
    for place in ("client.secure", "server.secure"):
        monkeypatch.setattr(f"{place}.add_mask", nothing)
        monkeypatch.setattr(f"{place}.subtract_mask", nothing)
    again = [{**node, "memory": f"{node['memory']}-again"} for node in nodes]
    with pytest.raises(RunError):
        run(plan, Between(again, lost={("train", 2, 1), ("train", 2, 2)}), tmp_path / "b")
    plain = run(plan, Between(again), tmp_path / "b")
    assert same(plain.weights, masked.weights)
    assert plain.bounds == masked.bounds


def test_with_a_codec_a_site_rounds_as_nobody_else_can_know(federation, tmp_path):
    """Who knows which way each number is rounded can tell from the sum whose was."""
    plan, ends = secure_plan(rounds=1, codec={"name": "int8"}), []
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        if name == "b":
            write_key(folder / "site-1.key", make_key())
        ends.append(run(plan, Between(with_identities(federation(plan), folder)), folder / "run").weights)
    assert not same(*ends)


@pytest.mark.slow
def test_with_a_codec_what_is_beyond_the_plan_s_norm_is_not_sent_later(federation, tmp_path):
    """As without: the plan's bound of an update is none if the rest comes round by round."""
    plan = secure_plan(rounds=3, codec={"name": "int8"}, federation={"max_update_norm": 1e-3})
    nodes = with_identities(federation(plan), tmp_path / "ids")
    run(plan, Between(nodes), tmp_path / "a")
    for node in nodes:
        (owed,) = Path(node["memory"]).glob("**/owed/*")
        assert wire.l2_norm(SiteMemory(owed).before(4)) < 1e-3


def test_with_a_codec_what_is_no_update_is_noticed_by_its_words(federation, tmp_path):
    """In few bits its norm says nothing; that -3 sites of 3 have large numbers does."""

    def rubbish(request, reply):
        if request.metadata.message_type == "train" and wire.get_round(request.content) == 2:
            (array,) = wire.get_arrays(reply.content).values()
            noise = np.random.default_rng(0).integers(0, 256, len(array.data), np.uint8)
            reply.content[wire.ARRAYS] = secure.pack_masked(noise.astype(np.uint64), 8)

    plan = secure_plan(rounds=2, codec={"name": "int8"})
    nodes = with_identities(federation(plan), tmp_path / "ids")
    with pytest.raises(RunError, match="are large: a site sent what is no update"):
        run(plan, Between(nodes, after=rubbish), tmp_path / "a")


@pytest.mark.parametrize("away", [1, 2, 3])
def test_with_a_codec_a_site_that_goes_away_is_left_out_of_the_mean(federation, tmp_path, away):
    """In the first round, where steps are tiny: what is left is the plain mean of the others."""
    plan = secure_plan(rounds=1, federation=HALF, codec={"name": "int8"})
    nodes = with_identities(federation(plan), tmp_path / "ids")
    after = run(plan, Between(nodes, lost={("train", 1, away)}), tmp_path / "a")
    plain = small_plan(rounds=1, federation=HALF)
    expected = run(plain, Between(federation(plain), lost={("train", 1, away)}), tmp_path / "b")
    moved = max(float(np.abs(w - expected.weights[name]).max()) for name, w in after.weights.items())
    scale = max(bound for bound in after.bounds.values())
    assert moved < scale / 100


def plain_without(federation, tmp_path, away):
    """The run without masks in which the node `away` gives no update in round 1."""
    plain = small_plan(rounds=2, federation=HALF)
    grid = Between(federation(plain), lost={("train", 1, away)})
    return run(plain, grid, tmp_path / "plain").weights


@pytest.mark.parametrize("stage", ["train.keys", "train.shares", "train"])
def test_a_site_that_goes_away_before_its_update_is_left_out_and_nothing_else_changes(
    federation, tmp_path, stage
):
    plan = secure_plan(rounds=2, federation=HALF)
    nodes = with_identities(federation(plan), tmp_path / "ids")
    after = run(plan, Between(nodes, lost={(stage, 1, 2)}), tmp_path / "a")
    assert same(after.weights, plain_without(federation, tmp_path, 2))
    assert list(after.history[0].failed) == ["site-1"]
    assert sorted(after.history[1].sites) == ["site-0", "site-1", "site-2"]


@pytest.mark.parametrize("stage", ["train.agree", "train.unmask"])
def test_a_site_that_goes_away_after_its_update_is_counted(federation, tmp_path, stage):
    plan, plain = secure_plan(rounds=1, federation=HALF), small_plan(rounds=1, federation=HALF)
    nodes = with_identities(federation(plan), tmp_path / "ids")
    after = run(plan, Between(nodes, lost={(stage, 1, 2)}), tmp_path / "a")
    assert same(after.weights, run(plain, SequentialGrid(app, federation(plain)), tmp_path / "b").weights)
    assert after.history[0].noted == {"site-1": "away"}


def test_below_the_threshold_the_round_ends_without_a_sum(federation, tmp_path):
    plan = secure_plan(rounds=1, federation=HALF)
    nodes = with_identities(federation(plan), tmp_path / "ids")
    grid = Between(nodes, lost={("train.unmask", 1, 1), ("train.unmask", 1, 2)})
    with pytest.raises(RunError, match="1 sites helped to take the masks off, the plan's threshold is 2"):
        run(plan, grid, tmp_path / "a")


def test_a_wrong_share_is_found_and_its_giver_named(federation, tmp_path):
    def lie(request, reply):
        if request.metadata.message_type == "train.unmask" and request.metadata.dst_node_id == 1:
            told = secure.take(reply.content, secure.REVEALED, secure.Revealed).shares
            secure.put(
                reply.content, secure.REVEALED, secure.Revealed(shares={**told, "site-2": "00" * 32 + "07"})
            )

    plan = secure_plan(rounds=1)
    nodes = with_identities(federation(plan), tmp_path / "ids")
    after = run(plan, Between(nodes, after=lie), tmp_path / "a")
    plain = small_plan(rounds=1)
    assert same(after.weights, run(plain, SequentialGrid(app, federation(plain)), tmp_path / "b").weights)
    assert after.history[0].noted == {"site-0": "revealed a share that is wrong"}


def test_what_is_no_update_is_noticed_in_the_sum(federation, tmp_path):
    def rubbish(request, reply):
        if request.metadata.message_type == "train" and request.metadata.dst_node_id == 1:
            (array,) = wire.get_arrays(reply.content).values()
            noise = np.random.default_rng(0).integers(0, 2**64, len(array.data) // 8, np.uint64)
            reply.content[wire.ARRAYS] = secure.pack_masked(noise, FULL)

    plan = secure_plan(rounds=1)
    nodes = with_identities(federation(plan), tmp_path / "ids")
    with pytest.raises(RunError, match="a site sent what is no update"):
        run(plan, Between(nodes, after=rubbish), tmp_path / "a")


def test_a_masked_update_is_uniform_and_the_shares_in_passing_are_sealed(federation, tmp_path):
    """What a curious server records: each byte of each masked update as likely as any other (chi-square with
    255 degrees of freedom: 99.9999 % below 400), and no two alike."""
    plan = secure_plan(rounds=1)
    grid = Between(with_identities(federation(plan), tmp_path / "ids"))
    run(plan, grid, tmp_path / "a")
    seen = [data for kind, arrays in grid.passed if kind == "train" for data in arrays]
    assert len(seen) == 3
    for data in [*seen, *(bytes(a ^ b for a, b in zip(x, y, strict=True)) for x, y in [seen[:2], seen[1:]])]:
        counts = np.bincount(np.frombuffer(data, np.uint8), minlength=256)
        expected = len(data) / 256
        assert float(((counts - expected) ** 2 / expected).sum()) < 400


def test_an_update_of_another_length_is_refused(federation, tmp_path):
    def shorten(request, reply):
        if request.metadata.message_type == "train" and request.metadata.dst_node_id == 1:
            (array,) = wire.get_arrays(reply.content).values()
            reply.content[wire.ARRAYS] = secure.pack_masked(np.frombuffer(array.data[8:], np.uint64), FULL)

    plan = secure_plan(rounds=1, federation=HALF)
    nodes = with_identities(federation(plan), tmp_path / "ids")
    after = run(plan, Between(nodes, after=shorten), tmp_path / "a")
    assert "bytes of a masked update, expected" in after.history[0].failed["site-0"]


@pytest.mark.parametrize("how", ["unknown", "other key", "unsigned"])
def test_a_hospital_that_most_refuse_is_left_out_and_the_rest_go_on(federation, tmp_path, how):
    """One hostile site, or a new one that nobody confirmed yet, ends no run."""
    plan, plain = secure_plan(3, rounds=1, federation=HALF), small_plan(rounds=1, federation=HALF)
    nodes = with_identities(federation(plan, 4), tmp_path / "ids")
    for node in nodes[:3]:
        peers = Peers(Path(node["peers"]))
        peers.revoke("site-3")
        if how != "unknown":
            shown = fingerprint_of(identity_of(read_key(Path(nodes[3]["identity"]))))
            peers.confirm("site-3", shown if how == "unsigned" else "0" * 32)

    def spoil(request, reply):
        if (
            how == "unsigned"
            and request.metadata.message_type == "train.keys"
            and request.metadata.dst_node_id == 4
        ):
            advert = secure.take(reply.content, secure.ADVERT, Advert)
            secure.put(reply.content, secure.ADVERT, replace(advert, signature="ab"))

    after = run(plan, Between(nodes, after=spoil), tmp_path / "a")
    expected = run(plain, Between(federation(plain, 4), lost={("train", 1, 4)}), tmp_path / "b")
    assert same(after.weights, expected.weights)
    said = {"unknown": "not confirmed", "other key": "another key", "unsigned": "is not signed by its key"}[
        how
    ]
    assert said in after.history[0].failed["site-3"]


@pytest.mark.parametrize("how", ["seal", "mask", "identity", "sealed"])
def test_a_hostile_site_ends_no_round(federation, tmp_path, how):
    """Keys that are none, another's identity, shares that do not open: the rest go on without it."""
    plan, plain = secure_plan(3, rounds=1, federation=HALF), small_plan(rounds=1, federation=HALF)
    nodes = with_identities(federation(plan, 4), tmp_path / "ids")
    key, shown = read_key(Path(nodes[3]["identity"])), {}

    def spoil(request, reply):
        kind = request.metadata.message_type
        if kind == secure.KEYS:
            advert = secure.take(reply.content, secure.ADVERT, Advert)
            shown[advert.site] = advert
            if advert.site != "site-3" or how == "sealed":
                return
            odd = {"identity": shown["site-0"].identity} if how == "identity" else {how: "00" * 32}
            advert = replace(advert, **odd)
            moment = Moment(plan.sha256, wire.get_text(request.content, wire.RUN), 1)
            said = (advert.identity, advert.mask, advert.seal, advert.commitment)
            signature = key.sign(moment.context("keys", advert.site, *said), _SIGNED).hex()
            secure.put(reply.content, secure.ADVERT, replace(advert, signature=signature))
        if how == "sealed" and kind == secure.SHARES and request.metadata.dst_node_id == 4:
            sealed = secure.take(reply.content, secure.SEALED, secure.Sealed)
            rubbish = dict.fromkeys(sealed.shares, "00" * SEALED_BYTES)
            secure.put(reply.content, secure.SEALED, replace(sealed, shares=rubbish))

    after = run(plan, Between(nodes, after=spoil), tmp_path / "a")
    expected = run(plain, Between(federation(plain, 4), lost={("train", 1, 4)}), tmp_path / "b")
    assert same(after.weights, expected.weights)
    assert set(after.history[0].failed) == {"site-3"}


def test_half_of_the_sites_cast_nobody_out(federation, tmp_path):
    """Two liars of four could leave one hospital alone with them, and know its update from the sum."""
    plan = secure_plan(3, rounds=1, federation=HALF)
    nodes = with_identities(federation(plan, 4), tmp_path / "ids")

    class Liars(Between):
        def pull_messages(self, message_ids):
            request = self._queue[0][1] if self._queue else None
            if request and request.metadata.message_type == "train" and request.metadata.dst_node_id > 2:
                self._queue.popleft()
                return [Message(Error(wire.SITE_REFUSES, not_from("site-0")), reply_to=request)]
            return super().pull_messages(message_ids)

    with pytest.raises(RunError, match="2 sites sent an update, the plan's threshold is 3"):
        run(plan, Liars(nodes), tmp_path / "a")


@pytest.mark.slow
def test_who_was_cast_out_stays_out_and_nobody_trains_twice_for_it_again(federation, tmp_path):
    plan = secure_plan(3, rounds=3, federation=HALF)
    nodes, trained = with_identities(federation(plan, 5), tmp_path / "ids"), []

    def spoil(request, reply):
        kind = request.metadata.message_type
        if kind == "train" and not reply.has_error():
            trained.append(request.metadata.dst_node_id)
        if kind == secure.SHARES and request.metadata.dst_node_id == 5:
            sealed = secure.take(reply.content, secure.SEALED, secure.Sealed)
            shares = {p: s if p == "site-0" else "00" * SEALED_BYTES for p, s in sealed.shares.items()}
            secure.put(reply.content, secure.SEALED, replace(sealed, shares=shares))

    end = run(plan, Between(nodes, after=spoil), tmp_path / "a")
    assert [set(report.failed) for report in end.history] == [{"site-4"}] * 3
    assert trained.count(1) == 4  # once in vain
    assert trained.count(2) == 3


def test_a_site_that_refuses_all_others_is_out_alone(federation, tmp_path):
    plan, plain = secure_plan(3, rounds=1, federation=HALF), small_plan(rounds=1, federation=HALF)
    nodes = with_identities(federation(plan, 4), tmp_path / "ids")
    Path(nodes[3]["peers"]).unlink()
    after = run(plan, Between(nodes), tmp_path / "a")
    expected = run(plain, Between(federation(plain, 4), lost={("train", 1, 4)}), tmp_path / "b")
    assert same(after.weights, expected.weights)
    assert "site-0 is not confirmed as a peer" in after.history[0].failed["site-3"]
