"""Simulated hospitals under secure aggregation: each has an identity, and confirmed the others'.

Who knows a simulated site's name knows its key: it hides nothing from anybody, and a simulation gives the
same bits again (a site rounds by its key: common/secure/levels.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from client.governance.peers import Peers
from common.credentials import read_key, write_key
from common.secure.keys import fingerprint_of, identity_of
from common.seeds import derive_seed


@dataclass(frozen=True)
class Identity:
    """A site's two files."""

    key: Path
    peers: Path


def introduce(folder: Path, sites: Sequence[str]) -> dict[str, Identity]:
    """Site -> its identity, in `folder`; those that are there from before stay."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    known = {site: Identity(folder / f"{site}.key", folder / f"{site}.json") for site in sites}
    for site, identity in known.items():
        if not identity.key.exists():
            write_key(
                identity.key, ec.derive_private_key(1 + derive_seed(0, "identity", site), ec.SECP384R1())
            )
    shown = {site: fingerprint_of(identity_of(read_key(one.key))) for site, one in known.items()}
    for site, identity in known.items():
        Peers(identity.peers).confirm_all({peer: print_ for peer, print_ in shown.items() if peer != site})
    return known
