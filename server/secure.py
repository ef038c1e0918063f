"""A round of secure aggregation at the server: it passes on what the sites seal for each other, sums what it
cannot read, and takes the masks off the sum (common/secure/messages.py has the stages)."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import numpy as np
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from common import wire
from common.aggregate import clipped
from common.errors import RunError, WireError
from common.plan import Plan
from common.results.form import Result, to_text
from common.results.rounds import UPDATE_NORM
from common.secure import messages as secure
from common.secure.keys import (
    Advert,
    Moment,
    commitment_of,
    not_from,
    pair_key,
    public_of,
    require_signed,
    require_usable,
)
from common.secure.levels import Bounds, Levels, n_integers
from common.secure.masks import Ring, add_mask, subtract_mask
from common.secure.ring import FULL, from_ring
from common.secure.shamir import recover
from server.replies import Replies
from server.roster import collect, objection
from server.weighing import Scale

T = TypeVar("T")


@dataclass(frozen=True)
class Exchange:
    """What a round of secure aggregation needs besides: it talks to the sites several times."""

    grid: Grid
    moment: Moment
    name_of: Callable[[int], str]
    deadline_s: float
    """Of each stage."""
    bounds: Bounds = field(default_factory=dict)
    """Of this round's integers, under a plan with a codec; empty where nobody knows any."""


class SecureReplies(Replies):
    """The masked updates of one round, summed as they arrive."""

    def __init__(
        self,
        plan: Plan,
        schema: wire.Schema,
        weights: wire.Weights,
        n_members: int,
        scale: Scale,
        exchange: Exchange,
    ) -> None:
        super().__init__(plan, schema, weights, n_members, scale)
        self._grid, self._moment, self._name_of = exchange.grid, exchange.moment, exchange.name_of
        self._deadline_s = exchange.deadline_s
        self._bounds = exchange.bounds or None
        self._threshold = plan.aggregation.threshold or 0
        self._adverts: dict[str, Advert] = {}
        self._weights: dict[str, float] = {}
        self._nodes: dict[str, int] = {}
        self._points: dict[str, int] = {}  # site -> where its shares lie on the polynomials
        self._refused: dict[str, Mapping[str, str]] = {}  # site -> with whom it shares nothing, and why
        self._accused: dict[str, set[str]] = {}  # site -> whose shares from it do not open
        self._survivors: list[str] = []
        self._roster = secure.Roster(adverts=(), weights={})
        self._levels: Levels | None = None
        self._sum: Ring = np.zeros(n_integers(plan, schema.shapes), np.uint64)

    def begin(self, requests: list[Message]) -> list[Message]:
        """Introduce the sites to each other; each request to train gets the shares that are sealed for its
        site. Sites that fail here are in `failed`."""
        asked = {self._name_of(m.metadata.dst_node_id): m for m in requests}
        self._nodes = {site: m.metadata.dst_node_id for site, m in asked.items()}
        shared = self._introduce(set(asked))
        for site in shared:
            inbound = {peer: sealed.shares[site] for peer, sealed in shared.items() if peer != site}
            secure.put(asked[site].content, secure.SEALED, secure.Sealed(shares=inbound))
        return [asked[site] for site in sorted(shared)]

    def _introduce(self, sites: set[str]) -> dict[str, secure.Sealed]:
        """What each site sealed for the others. With a site that most others refuse there is no round: it is
        left out, and the rest begin anew."""
        self._refused = {}
        self._adverts = self._ask(secure.KEYS, sites, {}, self._advert, self.failed)
        self._require(len(self._adverts), "have shown their keys")
        self._points = {site: x for x, site in enumerate(self._adverts, start=1)}
        weights = {site: self._weights[site] for site in self._adverts}
        self._roster = roster = secure.Roster(
            adverts=tuple(self._adverts.values()), weights=weights, bounds=self._bounds
        )
        self._levels = Levels.of(self.plan, self.schema.shapes, len(self._adverts), self._bounds)
        silent: dict[str, str] = {}
        shared = self._ask(secure.SHARES, self._adverts, {secure.ROSTER: roster}, self._sealed, silent)
        if outcast := self._outcast(len(shared) + len(self._refused)):
            self.failed |= outcast
            return self._introduce(set(self._adverts) - outcast.keys())
        self.failed |= silent
        self._require(len(shared), "have shared their secrets")
        self._adverts = {site: self._adverts[site] for site in shared}
        return shared

    def _outcast(self, n_judges: int) -> dict[str, str]:
        """Site -> why, of those that more than half of the sites that answered refuse."""
        said: dict[str, list[str]] = {}
        for refused in self._refused.values():
            for site, why in refused.items():
                said.setdefault(site, []).append(why)
        return {
            site: f"most sites refuse it: it {why[0]}"
            for site, why in said.items()
            if site in self._adverts and 2 * len(why) > n_judges
        }

    def _advert(self, site: str, content: RecordDict) -> Advert:
        advert = secure.take(content, secure.ADVERT, Advert)
        if advert.site != site:
            raise WireError(f"the site admitted as {site} shows keys of {advert.site[:64]}")
        require_signed(advert, self._moment)
        require_usable(advert)
        self._weights[site] = self.scale.weigh(site, wire.check_numbers(content, ())[wire.N_EXAMPLES])
        return advert

    def _sealed(self, site: str, content: RecordDict) -> secure.Sealed:
        sealed = secure.take(content, secure.SEALED, secure.Sealed)
        if sealed.refused:
            self._refused[site] = sealed.refused
            raise WireError("; ".join(f"{peer} {why}" for peer, why in sorted(sealed.refused.items()))[:300])
        if sealed.shares.keys() != self._adverts.keys() - {site}:
            raise WireError("it did not seal a share for each peer")
        return sealed

    def accept(self, site: str, reply: Message) -> wire.Numbers:
        """The reply's numbers; what is under the masks is nobody's to judge. Raises WireError, and leaves no
        trace of it, if anything about the reply is off."""
        if reply.has_error():
            for giver in self._adverts:
                if reply.error.reason == not_from(giver):
                    self._accused.setdefault(giver, set()).add(site)
            raise WireError(reply.error.reason)
        numbers = wire.check_numbers(reply.content, wire.TRAIN_NUMBERS)
        self._sum += secure.unpack_masked(wire.get_arrays(reply.content), len(self._sum), self._bits)
        reply.content = RecordDict()
        self.kept = {site: reply}
        self._survivors.append(site)
        return {**numbers, UPDATE_NORM: float("nan")}

    def outcast(self) -> dict[str, str]:
        """Who sealed rubbish for most sites. Of no more than half nobody can say who lies."""
        why, n = "most sites cannot open what it sealed for them", len(self._adverts)
        return {giver: why for giver, by in sorted(self._accused.items()) if 2 * len(by - {giver}) > n}

    def finish(self) -> None:
        """Take the masks off, with the sites' help.

        Raises:
            RunError: fewer than the plan's threshold help, or what comes out is no sum of honest updates.
        """
        survivors = sorted(self._survivors)
        self._require(len(survivors), "sent an update")
        words = self._ask(
            secure.AGREE, survivors, {secure.SURVIVORS: secure.Survivors(sites=tuple(survivors))},
            lambda _, content: secure.take_signature(content), self.noted,
        )  # fmt: skip
        self._require(len(words), "agreed on whose updates are summed")
        revealed = self._ask(
            secure.UNMASK, words, {secure.SIGNATURES: secure.Signatures(by_site=words)}, self._revealed,
            self.noted,
        )  # fmt: skip
        self._require(len(revealed), "helped to take the masks off")
        self._unmask(survivors, revealed)
        weight = sum(self._weights[site] for site in survivors)
        if self._levels is None:
            self.mean.add_sum(from_ring(self._sum, self.schema.shapes), weight)
            zeros = {name: np.zeros(shape, np.float32) for name, shape in self.schema.shapes.items()}
            self._require_sound(self.mean.updated(zeros))
        else:
            self._add_coded(self._levels, survivors, weight)

    def _add_coded(self, levels: Levels, survivors: list[str], weight: float) -> None:
        beyond = levels.n_beyond(self._sum)
        if beyond.min() < 0 or beyond.max() > len(survivors):
            raise self._unsound(f"says that {beyond.min()} to {beyond.max()} of {len(survivors)} are large")
        share = float(self._roster.share(survivors))
        mean, most = levels.decode(self._sum, share), self.plan.federation.max_update_norm
        self._require_sound(mean, levels.slack(share))
        self.mean.add(clipped(mean, most), weight)
        self.bounds = levels.next_bounds(self._sum, mean, most)

    @property
    def _bits(self) -> int:
        return FULL if self._levels is None else self._levels.bits

    def _revealed(self, site: str, content: RecordDict) -> Mapping[str, str]:
        shares = secure.take(content, secure.REVEALED, secure.Revealed).shares
        if shares.keys() != self._adverts.keys():
            raise WireError("it did not reveal one share of each site")
        return shares

    def _unmask(self, survivors: list[str], revealed: Mapping[str, Mapping[str, str]]) -> None:
        for site, advert in self._adverts.items():
            shares = {self._points[giver]: bytes.fromhex(told[site]) for giver, told in revealed.items()}
            if site in survivors:
                subtract_mask(self._sum, self._recovered(site, shares, partial(_is_seed, advert)), self._bits)
                continue
            secret = self._recovered(site, shares, partial(_is_mask_key, advert))
            for other in survivors:  # what they put on for a site that went away
                key = pair_key(secret, self._adverts[other].mask, self._moment, site, other)
                (subtract_mask if other < site else add_mask)(self._sum, key, self._bits)

    def _recovered(self, site: str, shares: dict[int, bytes], is_right: Callable[[bytes], bool]) -> bytes:
        """A secret of `site`, from what the others revealed; who revealed what is wrong is noted."""
        try:
            secret, wrong = recover(shares, self._threshold, is_right)
        except ValueError as e:
            raise RunError(
                f"round {self._moment.round}: the masks of {site} cannot be taken off: {e}"
            ) from None
        for giver, x in self._points.items():
            if x in wrong:
                self.noted[giver] = "revealed a share that is wrong"
        return secret

    def _require_sound(self, mean: wire.Weights, slack: float = 0.0) -> None:
        """The mean of updates of at most this norm has at most this norm, but for `slack` of their
        rounding."""
        norm, most = wire.l2_norm(mean), self.plan.federation.max_update_norm
        if not norm <= most * 1.001 + slack:
            raise self._unsound(f"has a mean of norm {norm:.3g}, the plan allows {most:g}")

    def _unsound(self, found: str) -> RunError:
        return RunError(
            f"round {self._moment.round}: the sum {found}: a site sent what is no update; under "
            "aggregation.secure nobody can see which"
        )

    def _ask(
        self,
        stage: str,
        sites: Collection[str],
        told: Mapping[str, Result],
        read: Callable[[str, RecordDict], T],
        silent: dict[str, str],
    ) -> dict[str, T]:
        """What each site answers at a stage, by name; why one does not is put into `silent`."""
        config = ConfigRecord(
            {
                wire.PLAN_SHA256: self._moment.plan,
                wire.RUN: self._moment.run,
                wire.ROUND: self._moment.round,
                **{key: to_text(value) for key, value in told.items()},
            }
        )
        requests = [
            Message(RecordDict({wire.CONFIG: config}), self._nodes[site], stage) for site in sorted(sites)
        ]
        answers: dict[str, T] = {}
        missing = set(sites)
        for node, reply in collect(self._grid, requests, self._deadline_s):
            site = self._name_of(node)
            missing.discard(site)
            try:
                if reply.has_error():
                    raise WireError(reply.error.reason)
                answers[site] = read(site, reply.content)
            except Exception as e:  # nothing that a site sends ends the round
                silent[site] = objection(site, e)
        silent |= dict.fromkeys(missing, "no answer before the deadline")
        return dict(sorted(answers.items()))

    def _require(self, n: int, what: str) -> None:
        if n < self._threshold:
            silent = sorted({**self.noted, **self.failed}.items())
            raise RunError(
                f"round {self._moment.round}: {n} sites {what}, the plan's threshold is {self._threshold}. "
                + "; ".join(f"{site}: {reason}" for site, reason in silent)
            )


def _is_seed(advert: Advert, secret: bytes) -> bool:
    return commitment_of(secret) == advert.commitment


def _is_mask_key(advert: Advert, secret: bytes) -> bool:
    return public_of(secret) == advert.mask
