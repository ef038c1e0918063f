"""A site's part in a round of secure aggregation (common/secure/messages.py has the stages).

Its secrets are in this process's memory alone: a site that is restarted is out of the round, and begins the
next with new ones. Each stage is gone through once. What it revealed is on its disk: of one round, one sum.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from client.governance.peers import Peers
from common import wire
from common.codec import identity
from common.errors import RefusedError, WireError
from common.files import write_atomically
from common.plan import canonical_json
from common.results.form import to_text
from common.secure.keys import (
    Advert,
    Moment,
    make_keys,
    pair_key,
    require_agreed,
    require_signed,
    require_usable,
    rounding_seed,
    seal,
    sign_survivors,
    unseal,
)
from common.secure.masks import Ring, add_mask, subtract_mask
from common.secure.messages import KEYS, Objection, Revealed, Roster, Sealed, Signatures, Survivors
from common.secure.shamir import SHARE_BYTES, split

REVEALED = "revealed.json"


@dataclass(frozen=True)
class Party:
    """Who takes part, and with whom."""

    key: EllipticCurvePrivateKey
    """The site's identity."""
    site: str
    threshold: int
    peers: Peers
    folder: Path
    """Of the run, at the site."""


@dataclass
class SecureRound:
    """One site's round, from its keys to what it reveals. Every method but the first raises RefusedError or
    WireError where a server that lies would have to be helped."""

    party: Party
    moment: Moment
    _stage: int = 0
    _adverts: dict[str, Advert] = field(default_factory=dict)
    _roster: Roster | None = None
    _seen: tuple[str, str] = ("", "")
    """Hashes of the roster and of the model's weights: a site that was shown others counts as none."""
    _held: dict[str, tuple[bytes, bytes]] = field(default_factory=dict)
    """Peer -> the shares of its mask key and of its seed that it gave to this site."""
    _answers: tuple[str, int, bool] = ("", 0, False)
    """The cohort, the round up to which the server says that it has this site's updates, and `carries`."""
    _survivors: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._own, self.advert = make_keys(self.party.key, self.party.site, self.moment)

    def share(self, roster: Roster, n_patients: int) -> Sealed:
        """A share of this site's secrets for each peer; it trains on `n_patients`. None for anybody, if one
        is not who a person here confirmed."""
        self._require_stage(0, "the sites' keys")
        self._adverts = self._judged(roster)
        if refused := self._objections():
            return Sealed(shares={}, refused=refused)
        if len({advert.identity for advert in self._adverts.values()}) < len(self._adverts):
            raise RefusedError("two sites have one identity: a site's folder was copied")
        self._require_fair(roster.weights, n_patients)
        self._roster = roster
        self._seen = (hashlib.sha256(to_text(roster).encode()).hexdigest(), "")
        names, site = sorted(self._adverts), self.party.site
        parts = [
            split(secret, self.party.threshold, len(names)) for secret in (self._own.mask, self._own.seed)
        ]
        texts = {name: (parts[0][x], parts[1][x]) for x, name in enumerate(names, start=1)}
        self._held[site] = texts.pop(site)
        self._stage = 1
        return Sealed(
            shares={
                peer: seal(b"".join(both), self._own, self._adverts[peer].seal, self.moment, site, peer).hex()
                for peer, both in texts.items()
            }
        )

    def _judged(self, roster: Roster) -> dict[str, Advert]:
        """Every advert by its site."""
        adverts, threshold = {advert.site: advert for advert in roster.adverts}, self.party.threshold
        if len(adverts) != len(roster.adverts) or adverts.get(self.party.site) != self.advert:
            raise WireError("the list of the sites' keys is not whole, or has others for this site")
        if not len(adverts) < 2 * threshold <= 2 * len(adverts):
            raise RefusedError(
                f"{len(adverts)} sites take part; the plan's threshold {threshold} is not most of them"
            )
        return adverts

    def _objections(self) -> dict[str, Objection]:
        """The peers that are not who a person here confirmed, did not sign their keys for this round, or show
        some that are none. What is wrong with one of them is nobody else's fault."""
        peers = [advert for name, advert in self._adverts.items() if name != self.party.site]
        found = self.party.peers.objections(peers)
        for advert in peers:
            why = Objection.UNSIGNED
            try:
                require_signed(advert, self.moment)
                why = Objection.UNUSABLE
                require_usable(advert)
            except WireError:
                found.setdefault(advert.site, why)
        return found

    def _require_fair(self, weights: Mapping[str, float], n_patients: int) -> None:
        """Each site counts as the patients that it has, or the most that any does. Else a server could let
        one count alone, and see its update."""
        own = weights.get(self.party.site, 0.0)
        if weights.keys() != self._adverts.keys() or not (
            own == n_patients or (own < n_patients and own == max(weights.values()))
        ):
            raise RefusedError(
                f"the server counts this site as {own:g} patients; expected {n_patients}, or the most that "
                "any site counts as"
            )

    @property
    def roster(self) -> Roster:
        """Who takes part. Raises WireError before this site has shared its secrets with them."""
        if self._roster is None:
            raise WireError("an update came at another stage of the round than this site is at")
        return self._roster

    def open(self, sealed: Sealed, cohort: str, answered: int) -> None:
        """Take the shares that the peers sealed for this site. Before it trains, on the cohort of this
        fingerprint, and under privacy pays for it: a share that does not open ends its round. `answered`: up
        to which round the server says that it has this site's updates."""
        self._require_stage(1, "the peers' shares")
        self._require_counted(answered)
        same = self._sums().get(str(answered), [])[:-1] == sorted(self._adverts)
        self._answers = (cohort, answered, same and self.roster.bounds is not None)
        site, held = self.party.site, {}
        for peer, text in sealed.shares.items():
            if peer == site or peer not in self._adverts:
                raise WireError("a share came in the name of a site that does not take part")
            share = unseal(bytes.fromhex(text), self._own, self._adverts[peer].seal, self.moment, peer, site)
            held[peer] = (share[:SHARE_BYTES], share[SHARE_BYTES:])
        self._require_enough(len(held) + 1, "sites shared their secrets")
        self._held |= held
        self._stage = 2

    @property
    def carries(self) -> bool:
        """Whether what is owed of earlier updates goes with this one, under bounds: if those sites alone take
        part that were summed last. Among others, who owe nothing, that of many rounds under large bounds
        would be one site's."""
        return self._answers[2]

    def _require_counted(self, answered: int) -> None:
        """What this site owes, the server cannot have it forget, as if its last update were none: of sites
        that forget and one that does not, the sum would be that one's."""
        before = [int(number) for number in self._sums() if int(number) < self.moment.round]
        if (last := max(before, default=0)) > answered:
            raise RefusedError(
                f"the server says that it has this site's updates up to round {answered}, and this site "
                f"helped to sum that of round {last}"
            )

    def rounding(self) -> np.random.Generator:
        """How this round's integers are rounded: as nobody else knows."""
        return np.random.default_rng(rounding_seed(self.party.key, self.party.site, self.moment))

    def mask(self, vector: Ring, start: wire.Weights, bits: int) -> Ring:
        """The update from the global weights `start`, as the integers that are summed, under the masks of all
        whose shares came: in place, its lowest `bits`."""
        self._require_stage(2, "an update")
        self._require_confirmed(self._held)
        self._seen = (self._seen[0], identity(start))
        site, own = self.party.site, self._own
        add_mask(vector, own.seed, bits)
        for peer in self._held:
            if peer != site:
                key = pair_key(own.mask, self._adverts[peer].mask, self.moment, site, peer)
                (add_mask if site < peer else subtract_mask)(vector, key, bits)
        self._stage = 3
        return vector

    def _require_confirmed(self, names: Iterable[str]) -> None:
        """Nobody's confirmation was taken back since the round began."""
        peers = [self._adverts[name] for name in names if name != self.party.site]
        if refused := self.party.peers.objections(peers):
            raise RefusedError("; ".join(f"{name} {why}" for name, why in sorted(refused.items())))

    def agree(self, survivors: Survivors) -> str:
        """This site's word that exactly these are summed."""
        self._require_stage(3, "the list of survivors")
        names = list(survivors.sites)
        if names != sorted(set(names)) or self.party.site not in names or not set(names) <= self._held.keys():
            raise WireError("the list of survivors is not one of sites whose shares came, with this one")
        self._require_enough(len(names), "sites sent their updates")
        self._require_confirmed(names)
        if self._sums().get(str(self.moment.round)) not in (None, self._summed(names)):
            raise RefusedError(
                f"round {self.moment.round} was summed before, over other sites, weights, bounds, patients "
                "or updates before it: the difference would be a single site's update"
            )
        self._survivors, self._stage = names, 4
        return sign_survivors(self.party.key, self.moment, self._seen, names)

    def reveal(self, signatures: Signatures) -> Revealed:
        """Of each survivor the share of its seed; of each other the share of its mask key."""
        self._require_stage(4, "the survivors' signatures")
        if not signatures.by_site.keys() <= set(self._survivors):
            raise WireError("a signature came in the name of a site that is no survivor")
        for name, signature in signatures.by_site.items():
            require_agreed(self._adverts[name], signature, self.moment, self._seen, self._survivors)
        self._require_enough(len(signatures.by_site), "sites agreed on the survivors")
        self._require_confirmed(self._survivors)
        self._note_revealed()
        self._stage = 5
        return Revealed(
            shares={
                name: (of_seed if name in self._survivors else of_mask).hex()
                for name, (of_mask, of_seed) in sorted(self._held.items())
            }
        )

    def _require_stage(self, stage: int, what: str) -> None:
        """A stage that was refused is not gone through: nothing trains for a round that was not begun."""
        if self._stage != stage:
            raise WireError(f"{what} came at another stage of the round than this site is at")

    def _require_enough(self, n: int, who: str) -> None:
        if n < self.party.threshold:
            raise RefusedError(f"{n} {who}, the plan's threshold is {self.party.threshold}")

    def _summed(self, names: list[str]) -> list[str]:
        """What a sum is of: these sites, each counted as so much, under these bounds. If the most that any
        counts as were another one, or bounds a little smaller, the largest site's or update's part alone
        would be; if this site's patients were others, or what it still owes, this one's."""
        bounds, weights = self.roster.bounds, [self.roster.weights[name] for name in names]
        how = canonical_json([weights, bounds and dict(bounds), self._answers])
        return [*names, hashlib.sha256(how.encode()).hexdigest()]

    @property
    def _file(self) -> Path:
        return self.party.folder / REVEALED

    def _sums(self) -> dict[str, list[str]]:
        """Round -> what the sum was of, of those that this site helped with."""
        try:
            return dict(json.loads(self._file.read_text(encoding="utf-8"))) if self._file.exists() else {}
        except (OSError, ValueError, TypeError):
            raise RefusedError("this site's record of the sums that it helped with cannot be read") from None

    def _note_revealed(self) -> None:
        sums = {**self._sums(), str(self.moment.round): self._summed(self._survivors)}
        write_atomically(self._file, (json.dumps(sums) + "\n").encode())


class SecureRounds:
    """The rounds that are open in this process: of each run, one."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, str], SecureRound] = {}

    def begin(self, party: Party, moment: Moment) -> SecureRound:
        """With new keys: what was open of this run is forgotten."""
        self._open[party.site, moment.run] = begun = SecureRound(party, moment)
        return begun

    def current(self, site: str, moment: Moment) -> SecureRound:
        """Raises WireError if the round was not begun in this process."""
        found = self._open.get((site, moment.run))
        if found is None or found.moment != moment:
            raise WireError(
                f"this site has no keys for round {moment.round}: it was restarted, or did not begin ({KEYS})"
            )
        return found
