"""How sites follow the federation's CA while it is renewed: what the server tells an admitted site of the CA.

The new CA's certificate is told beside the old one, signed with the old one's key: a site that trusts the old
one need trust nobody else. Which certificates were revoked, and the site's own renewed certificate, carry the
CA's signature themselves.
"""

import base64
from dataclasses import asdict, dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from common.errors import WireError

PATH = "/v1/pneumofed/trust"
MAX_BYTES = 1_000_000


@dataclass(frozen=True)
class Trust:
    """Texts in PEM; empty where there is nothing to tell."""

    authorities: str = ""  # the CA's certificates, the newest first
    signature: str = ""  # of `authorities`, by the CA before: ECDSA with SHA-384, in base64
    revoked: str = ""
    certificate: str = ""  # the site's own

    @classmethod
    def parse(cls, tree: object) -> "Trust":
        """From JSON. Raises WireError if it is anything but these texts."""
        names = set(asdict(cls()))
        if not isinstance(tree, dict) or not tree.keys() <= names:
            raise WireError("what the server told of its CA is not readable")
        if not all(isinstance(text, str) and len(text) <= MAX_BYTES for text in tree.values()):
            raise WireError("what the server told of its CA is not readable")
        return cls(**tree)


def sign_authorities(authorities: str, key: ec.EllipticCurvePrivateKey) -> str:
    """By the key of the CA that sites trust so far."""
    return base64.b64encode(key.sign(authorities.encode(), ec.ECDSA(hashes.SHA384()))).decode()


def is_told_by(trust: Trust, authorities: list[x509.Certificate]) -> bool:
    """Whether the key of one of `authorities` signed `trust.authorities`."""
    try:
        signature = base64.b64decode(trust.signature, validate=True)
    except ValueError:  # binascii.Error, or a letter that is none of base64
        return False
    for authority in authorities:
        key = authority.public_key()
        if isinstance(key, ec.EllipticCurvePublicKey):
            try:
                key.verify(signature, trust.authorities.encode(errors="replace"), ec.ECDSA(hashes.SHA384()))
                return True
            except InvalidSignature:
                continue
    return False
