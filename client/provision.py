"""A hospital's keys: made here, never sent. What goes out is a request; what comes back is a certificate for
it."""

import secrets
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from client.settings import Hospital, SiteFolder
from common.config import dump_yaml
from common.credentials import make_key, public_pem, read_certificate, read_key, write_key
from common.errors import ConfigError
from common.files import write_atomically


def init_site(folder: SiteFolder, settings: Hospital, ca: Path) -> None:
    """Make a site's folder (mode 0700): its key, the secret behind its pseudonyms, hospital.yaml and
    request.pem.

    Raises:
        ConfigError: the folder holds something already, or `ca` is not a certificate.
    """
    path = folder.path
    if path.exists() and any(path.iterdir()):
        raise ConfigError(f"{path}: is not empty; choose a new folder, a site's keys are never overwritten")
    read_certificate(ca)
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.chmod(0o700)
    key = make_key()
    write_key(folder.key, key)
    write_atomically(folder.secret, secrets.token_hex(32).encode())
    folder.secret.chmod(0o600)
    write_atomically(folder.ca, ca.read_bytes())
    name = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, "a hospital's request")]
    )  # the coordinator gives the name
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA384())
    write_atomically(folder.request, request.public_bytes(Encoding.PEM))
    write_atomically(folder.settings_file, dump_yaml(settings).encode())


def join(folder: SiteFolder, certificate: Path) -> None:
    """Take in the coordinator's answer.

    Raises:
        ConfigError: the certificate is for another key, or was not signed by the CA of `client init`.
    """
    found, ca = read_certificate(certificate), read_certificate(folder.ca)
    if public_pem(found.public_key()) != public_pem(read_key(folder.key)):
        raise ConfigError(
            f"{certificate}: is for another key than this site's; did the coordinator sign this site's "
            "request.pem?"
        )
    try:
        found.verify_directly_issued_by(ca)
    except Exception:  # cryptography raises several kinds, all meaning no
        raise ConfigError(
            f"{certificate}: was not signed by {folder.ca}; ask the coordinator for the right CA"
        ) from None
    write_atomically(folder.certificate, found.public_bytes(Encoding.PEM))
