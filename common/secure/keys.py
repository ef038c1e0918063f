"""The keys of one site in one round, who vouches for them, and what passes between two sites under them.

Each round has keys of its own, made at the site, never written down: a mask is used once. `mask` agrees with
each peer on a pairwise mask, `seal` on a key that encrypts shares to it (X25519), `seed` expands to the
site's self mask. The site's identity, which lasts, signs them (ECDSA on P-384).
"""

import hashlib
import secrets
from dataclasses import dataclass, replace

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from common.errors import WireError
from common.results.form import Result
from common.secure.masks import KEY_BYTES
from common.secure.shamir import SHARE_BYTES

_SIGNED = ec.ECDSA(hashes.SHA384())
_NONCE = bytes(12)  # each key seals one text in each direction
SEALED_BYTES = 2 * SHARE_BYTES + 16


@dataclass(frozen=True)
class Moment:
    """What a key is for: one round of one run of one plan."""

    plan: str  # SHA-256
    run: str
    round: int

    def context(self, what: str, *parts: str) -> bytes:
        """Told apart from every other use."""
        return "\0".join(("pneumofed-secure-1", what, self.plan, self.run, str(self.round), *parts)).encode()


@dataclass(frozen=True, kw_only=True)
class Advert(Result):
    """What a site shows of its keys; everything in hex."""

    site: str
    identity: str  # its lasting public key, a compressed point
    mask: str
    seal: str
    commitment: str  # SHA-256 of the seed
    signature: str

    @property
    def fingerprint(self) -> str:
        """By which people know the site's identity."""
        return fingerprint_of(self.identity)


@dataclass(frozen=True)
class Secrets:
    """What a site keeps of them, in memory."""

    mask: bytes
    seal: bytes
    seed: bytes


def fingerprint_of(identity: str) -> str:
    """SHA-256 of an identity, in groups of four hex digits, as people read it out."""
    digest = hashlib.sha256(b"pneumofed-identity\0" + identity.encode()).hexdigest()[:32].upper()
    return " ".join(digest[k : k + 4] for k in range(0, 32, 4))


def identity_of(key: ec.EllipticCurvePrivateKey) -> str:
    """The public half, in hex."""
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint).hex()


def make_keys(key: ec.EllipticCurvePrivateKey, site: str, moment: Moment) -> tuple[Secrets, Advert]:
    """New keys of a site for one round, signed by its identity `key`."""
    own = Secrets(*(secrets.token_bytes(KEY_BYTES) for _ in range(3)))
    shown = (identity_of(key), public_of(own.mask), public_of(own.seal), commitment_of(own.seed))
    signature = key.sign(moment.context("keys", site, *shown), _SIGNED).hex()
    identity, mask, seal, commitment = shown
    return own, Advert(
        site=site, identity=identity, mask=mask, seal=seal, commitment=commitment, signature=signature
    )


def require_signed(advert: Advert, moment: Moment) -> None:
    """Raises WireError unless the identity that it names signed the keys for this round."""
    shown = (advert.identity, advert.mask, advert.seal, advert.commitment)
    _require(advert, advert.signature, moment.context("keys", advert.site, *shown))


def require_usable(advert: Advert) -> None:
    """Raises WireError unless others can agree on keys with these: rubbish, and points of small order, are
    none."""
    for public in (advert.mask, advert.seal):
        _agreed(secrets.token_bytes(KEY_BYTES), public, b"")


def sign_survivors(
    key: ec.EllipticCurvePrivateKey, moment: Moment, seen: tuple[str, str], survivors: list[str]
) -> str:
    """A site's word for whose updates are summed; `seen` are the hashes of what it was shown: the roster, and
    the model that it trained from."""
    return key.sign(_survivors(moment, seen, survivors), _SIGNED).hex()


def require_agreed(
    advert: Advert, signature: str, moment: Moment, seen: tuple[str, str], survivors: list[str]
) -> None:
    """Raises WireError unless the site signed exactly these survivors, and saw the same."""
    _require(advert, signature, _survivors(moment, seen, survivors))


def _survivors(moment: Moment, seen: tuple[str, str], survivors: list[str]) -> bytes:
    return moment.context("survivors", *seen, *survivors)


def _require(advert: Advert, signature: str, signed: bytes) -> None:
    try:
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP384R1(), bytes.fromhex(advert.identity))
        key.verify(bytes.fromhex(signature), signed, _SIGNED)
    except (ValueError, InvalidSignature):
        raise WireError(f"what {advert.site[:64]} is said to have signed is not signed by its key") from None


def rounding_seed(key: ec.EllipticCurvePrivateKey, site: str, moment: Moment) -> int:
    """256 bits for how a site rounds in a round, the same when it is asked for again, in whatever run. From
    the site's identity: nobody else may know them."""
    secret = key.private_numbers().private_value.to_bytes(48, "big")
    context = replace(moment, run="").context("rounding", site)
    return int.from_bytes(HKDF(hashes.SHA256(), KEY_BYTES, salt=None, info=context).derive(secret), "big")


def public_of(private: bytes) -> str:
    """Of an X25519 key, in hex."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw().hex()


def commitment_of(seed: bytes) -> str:
    """SHA-256 in hex: the seed is random, so that it tells nothing of it."""
    return hashlib.sha256(seed).hexdigest()


def pair_key(private: bytes, public: str, moment: Moment, one: str, other: str) -> bytes:
    """The key of the mask that two sites share: both come to the same.

    Raises:
        WireError: the public key is none.
    """
    return _agreed(private, public, moment.context("mask", *sorted((one, other))))


def seal(text: bytes, own: Secrets, public: str, moment: Moment, sender: str, receiver: str) -> bytes:
    """Encrypted for one peer alone, and bound to the round, sender and receiver. Raises WireError."""
    context = moment.context("share", sender, receiver)
    return ChaCha20Poly1305(_agreed(own.seal, public, context)).encrypt(_NONCE, text, context)


def unseal(sealed: bytes, own: Secrets, public: str, moment: Moment, sender: str, receiver: str) -> bytes:
    """Raises WireError if it was changed, or sealed by or for somebody else."""
    context = moment.context("share", sender, receiver)
    try:
        return ChaCha20Poly1305(_agreed(own.seal, public, context)).decrypt(_NONCE, sealed, context)
    except InvalidTag:
        raise WireError(not_from(sender)) from None


def not_from(sender: str) -> str:
    """What a site says of a share that does not open."""
    return f"the share that came in the name of {sender[:64]} is not from it"


def _agreed(private: bytes, public: str, context: bytes) -> bytes:
    try:
        shared = X25519PrivateKey.from_private_bytes(private).exchange(
            X25519PublicKey.from_public_bytes(bytes.fromhex(public))
        )
    except ValueError:  # no key, or a point of small order
        raise WireError("a public key of a peer is none") from None
    return HKDF(hashes.SHA256(), KEY_BYTES, salt=None, info=context).derive(shared)
