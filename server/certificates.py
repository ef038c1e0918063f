"""What the federation's CA issues: its own certificate, the server's, the signing one, the sites'; and what
it takes back."""

import datetime
import ipaddress

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from common.signature import DOCUMENT_SIGNING

CA_DAYS, CERTIFICATE_DAYS = 3650, 825
BACKDATED = datetime.timedelta(days=1)  # a site's clock may be behind the server's


class Authority:
    """A CA's key and certificate, at hand for as long as something is issued."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self.key, self.certificate = key, certificate

    @classmethod
    def new(cls, name: str, key: ec.EllipticCurvePrivateKey) -> "Authority":
        """A CA that nobody trusts yet."""
        subject = _subject(name)
        constraints = x509.BasicConstraints(ca=True, path_length=0)
        builder = _builder(subject, subject, key.public_key(), key.public_key(), CA_DAYS)
        builder = builder.add_extension(constraints, critical=True).add_extension(
            _usage(ca=True), critical=True
        )
        return cls(key, builder.sign(key, hashes.SHA384()))

    def issue_server(self, host: str, key: ec.EllipticCurvePublicKey) -> x509.Certificate:
        """For TLS of the server at `host`, a name or an address."""
        name = x509.SubjectAlternativeName([_alternative_name(host)])
        return self._issue(host, key, ExtendedKeyUsageOID.SERVER_AUTH, name)

    def issue_site(self, name: str, key: ec.EllipticCurvePublicKey) -> x509.Certificate:
        """For TLS of the site `name`."""
        return self._issue(name, key, ExtendedKeyUsageOID.CLIENT_AUTH)

    def issue_signer(self, host: str, key: ec.EllipticCurvePublicKey) -> x509.Certificate:
        """For the signature under handed-over models, and nothing else (common/signature.py)."""
        return self._issue(host, key, DOCUMENT_SIGNING)

    def _issue(
        self,
        name: str,
        key: ec.EllipticCurvePublicKey,
        purpose: ObjectIdentifier,
        alternative: x509.SubjectAlternativeName | None = None,
    ) -> x509.Certificate:
        issuer = self.certificate.subject
        builder = _builder(_subject(name), issuer, key, self.key.public_key(), CERTIFICATE_DAYS)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_usage(ca=False), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=True)
        if alternative is not None:
            builder = builder.add_extension(alternative, critical=False)
        return builder.sign(self.key, hashes.SHA384())

    def revoke(
        self, serial_number: int, before: x509.CertificateRevocationList | None
    ) -> x509.CertificateRevocationList:
        """The list of revoked certificates with one more; it holds as long as the CA."""
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.certificate.subject)
        builder = builder.last_update(now).next_update(self.certificate.not_valid_after_utc)
        kept = {entry.serial_number: entry.revocation_date_utc for entry in before or ()}
        for number, moment in {**kept, serial_number: kept.get(serial_number, now)}.items():
            entry = x509.RevokedCertificateBuilder().serial_number(number).revocation_date(moment).build()
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(self.key, hashes.SHA384())


def is_for(certificate: x509.Certificate, host: str) -> bool:
    """Whether a server's certificate is for `host`, a name or an address."""
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return _alternative_name(host) in list(names)


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    issuer_key: ec.EllipticCurvePublicKey,
    days: int,
) -> x509.CertificateBuilder:
    """What all our certificates have in common."""
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
    )


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca, key_cert_sign=ca, crl_sign=ca, content_commitment=False,
        key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _alternative_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
