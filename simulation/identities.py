"""Simulated hospitals under secure aggregation: each has an identity, and confirmed the others'."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from client.governance.peers import Peers
from common.credentials import make_key, read_key, write_key
from common.secure.keys import fingerprint_of, identity_of


@dataclass(frozen=True)
class Identity:
    """A site's two files."""

    key: Path
    peers: Path


def introduce(folder: Path, sites: Sequence[str]) -> dict[str, Identity]:
    """Site -> its identity, in `folder`; those that are there from before stay."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    known = {site: Identity(folder / f"{site}.key", folder / f"{site}.json") for site in sites}
    for identity in known.values():
        if not identity.key.exists():
            write_key(identity.key, make_key())
    shown = {site: fingerprint_of(identity_of(read_key(one.key))) for site, one in known.items()}
    for site, identity in known.items():
        Peers(identity.peers).confirm_all({peer: print_ for peer, print_ in shown.items() if peer != site})
    return known
