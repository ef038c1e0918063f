"""What crosses in a round of secure aggregation, stage by stage (Bonawitz et al., 2017, with the checks
against a server that lies).

server -> site                                   site -> server
KEYS    PLAN_SHA256, RUN, ROUND                  ADVERT: its keys of the round; METRICS N_EXAMPLES
SHARES  the same, ROSTER: all sites' adverts,    SEALED: to each peer a share of its secrets, encrypted; or
        how much each counts, with a codec the   with whom it shares none: the server begins anew without
        tensors' bounds
train   the weights, SEALED: the shares that     ARRAYS: MASKED, its update times its weight under all masks
        peers sealed for it                      METRICS as without
AGREE   SURVIVORS: whose updates are there       SIGNATURE: its word for that list, given once
UNMASK  SIGNATURES: everybody's word             REVEALED: of each survivor the share of its seed, of each
                                                 other the share of its mask key, never both
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Annotated, TypeVar

from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from pydantic import Field

from common import wire
from common.errors import RunError, WireError
from common.results.form import IF_KNOWN, Result, parse, to_text
from common.secure.keys import SEALED_BYTES, Advert
from common.secure.levels import TINY
from common.secure.masks import Ring
from common.secure.ring import read_ring, ring_bytes, write_ring
from common.secure.shamir import SHARE_BYTES

KEYS, SHARES, AGREE, UNMASK = "train.keys", "train.shares", "train.agree", "train.unmask"
STAGES = (KEYS, SHARES, AGREE, UNMASK)
"""Message types beside `train`."""
ADVERT, ROSTER, SEALED = "advert", "roster", "sealed"
SURVIVORS, SIGNATURE, SIGNATURES, REVEALED = "survivors", "signature", "signatures", "revealed"
MASKED = "pneumofed-masked-1"
"""The name and the type of the one array of a masked update, with the format's version."""

Site = Annotated[str, Field(min_length=1, max_length=wire.MAX_TEXT)]
Hex = Annotated[str, Field(pattern="^([0-9a-f]{2})+$", max_length=400)]
T = TypeVar("T", bound=Result)


def _hex_of(n_bytes: int) -> object:
    return Field(pattern=f"^[0-9a-f]{{{2 * n_bytes}}}$")


@dataclass(frozen=True, kw_only=True)
class Roster(Result):
    """Who takes part in a round: the keys of all sites, by name, and how many patients each counts as; under
    a plan with a codec how large the tensors' numbers are taken to be (common/secure/levels.py)."""

    adverts: tuple[Advert, ...]
    weights: Mapping[Site, Annotated[float, Field(gt=0.0, le=wire.MAX_EXAMPLES)]]
    bounds: Annotated[Mapping[Site, Annotated[float, Field(ge=TINY, le=1e6)]] | None, IF_KNOWN] = None

    def share(self, sites: Iterable[str]) -> Fraction:
        """What these sites count as, of all in the round."""
        of_all = sum(map(Fraction, self.weights.values()), Fraction(0))
        return sum((Fraction(self.weights[site]) for site in sites), Fraction(0)) / of_all


class Objection(StrEnum):
    """Why a site shares nothing with a peer."""

    UNKNOWN = "is not confirmed as a peer"
    OTHER_KEY = "has another key than was confirmed"
    UNSIGNED = "did not sign its keys for this round"
    UNUSABLE = "shows keys that are none"


@dataclass(frozen=True, kw_only=True)
class Sealed(Result):
    """Peer -> what is encrypted for it, or came from it; or why nothing is."""

    shares: Mapping[Site, Annotated[str, _hex_of(SEALED_BYTES)]]
    refused: Annotated[Mapping[Site, Annotated[Objection, Field(strict=False)]] | None, IF_KNOWN] = None


@dataclass(frozen=True, kw_only=True)
class Survivors(Result):
    """The sites whose masked updates the server has, by name."""

    sites: tuple[Site, ...]


@dataclass(frozen=True, kw_only=True)
class Signatures(Result):
    """Site -> its word for the survivors."""

    by_site: Mapping[Site, Hex]


@dataclass(frozen=True, kw_only=True)
class Revealed(Result):
    """Peer -> one share of one of its secrets."""

    shares: Mapping[Site, Annotated[str, _hex_of(SHARE_BYTES)]]


SAID_AT = {KEYS: ADVERT, SHARES: SEALED, AGREE: SIGNATURE, UNMASK: REVEALED}
"""Message type -> the text of a site's reply."""
KINDS: Mapping[str, type[Result]] = {
    ADVERT: Advert, ROSTER: Roster, SEALED: Sealed, SURVIVORS: Survivors, SIGNATURES: Signatures,
    REVEALED: Revealed,
}  # fmt: skip


def put(content: RecordDict, key: str, value: Result | str) -> None:
    """Into the message's ConfigRecord."""
    config = content.config_records[wire.CONFIG] if wire.CONFIG in content else ConfigRecord()
    told = value if isinstance(value, str) else to_text(value)
    content[wire.CONFIG] = ConfigRecord({**config, key: told})


def take(content: RecordDict, key: str, kind: type[T]) -> T:
    """Out of the message's ConfigRecord. Raises WireError if it is not there, or no `kind`."""
    text = wire.get_text(content, key)
    try:
        return parse(kind, text, f"the text {key!r}", "it is not taken")
    except RunError as e:
        raise WireError(str(e)) from None


def take_signature(content: RecordDict) -> str:
    """SIGNATURE of a reply. Raises WireError if it is no hex."""
    text = wire.get_text(content, SIGNATURE)
    if not text or len(text) % 2 or not set(text) <= set("0123456789abcdef"):
        raise WireError(f"the text {SIGNATURE!r} is not hex")
    return text


def pack_masked(vector: Ring, bits: int) -> ArrayRecord:
    """For a message: of each integer the lowest `bits`."""
    data = write_ring(vector, bits)
    return ArrayRecord({MASKED: Array("uint8", (len(data),), MASKED, data)})


def unpack_masked(record: ArrayRecord, n: int, bits: int) -> Ring:
    """Of a message. Raises WireError if it holds anything else than `n` integers of so many bits."""
    return read_ring(_data(record), n, bits)


def repacked(record: ArrayRecord, n: int, widths: tuple[int, ...]) -> ArrayRecord:
    """Packed anew, in that of the widths which it has. Raises WireError if it has none."""
    found = len(_data(record))
    bits = next((bits for bits in widths if found == ring_bytes(n, bits)), widths[0])
    return pack_masked(unpack_masked(record, n, bits), bits)


def _data(record: ArrayRecord) -> bytes:
    if set(record) != {MASKED} or record[MASKED].stype != MASKED:
        raise WireError(f"found the arrays {sorted(record)[:5]}, expected {MASKED} alone")
    return record[MASKED].data
