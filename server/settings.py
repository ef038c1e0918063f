"""The server's folder and its settings, server.yaml."""

import ipaddress
import re
from pathlib import Path

from pydantic import Field, field_validator

from common.boards import Kind
from common.config import Settings, load_yaml
from common.credentials import require_private
from common.errors import ConfigError
from common.notices import Notices
from common.text import printable, quoted

_HOST = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*")


class ServerSettings(Settings):
    """Where the server listens. The control socket has no setting: it lies in the folder, for the owner
    alone."""

    host: str = Field(
        min_length=1,
        max_length=253,
        description="the name by which sites reach the server, or its address; in its certificate",
    )
    listen: str = Field(default="0.0.0.0", description="address to listen on")  # noqa: S104 - the one open port, mutual TLS
    port: int = Field(default=443, ge=1, le=65535)
    health_port: int | None = Field(default=None, ge=1, le=65535, description="gRPC health on loopback")
    metrics_port: int | None = Field(
        default=None, ge=1, le=65535, description="Prometheus /metrics on loopback"
    )
    notices: Notices | None = Field(default=None, description="who is told that a run ended, a site is lost")
    curves: tuple[Kind, ...] = Field(
        default=(), strict=False, description="of runs for TensorBoard or MLflow, in curves/ of this folder"
    )

    @field_validator("host")
    @classmethod
    def _name_or_address(cls, host: str) -> str:
        try:
            ipaddress.ip_address(host)
        except ValueError:
            if not _HOST.fullmatch(host):
                raise ValueError(
                    f"found {printable(host)!r}, expected a host's name alone, without scheme or port, such "
                    "as fed.example.org (one with other letters as xn--…), or an address"
                ) from None
        return host


class ServerFolder:
    """The files of one server, by name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.settings_file = path / "server.yaml"
        self.ca_key, self.ca_certificate = path / "ca.key", path / "ca.crt"
        self.key, self.certificate = path / "server.key", path / "server.crt"
        self.signing_key, self.signing = path / "signing.key", path / "signing.crt"
        self.revoked, self.trust = path / "ca.crl", path / "trust.json"
        self.renewal = path / "renewal"
        self.shown = path / "shown.json"
        self.sites = path / "sites.json"
        self.certificates = path / "certificates"
        self.audit = path / "audit.log"
        self.runs, self.curves = path / "runs", path / "curves"
        self.logs = path / "logs"
        self.socket = path / "control.sock"
        self.lock = path / ".lock"

    def settings(self) -> ServerSettings:
        """The settings, if the folder is a server's and its keys are private.

        Raises:
            ConfigError: it is not, or a private key can be read by others.
        """
        if not self.settings_file.is_file():
            make = f"pneumofed server init {quoted(self.path)} --host NAME"
            raise ConfigError(f"{self.path}: not a server's folder; make one with: {make}")
        require_private(self.key)
        for key in (self.ca_key, self.signing_key):  # the CA's may be kept offline
            if key.exists():
                require_private(key)
        return load_yaml(self.settings_file, ServerSettings)
