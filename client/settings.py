"""A hospital's folder and its settings, hospital.yaml."""

import hashlib
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from client.governance.policy import Policy
from common.boards import Kind
from common.config import Settings, load_yaml
from common.errors import ConfigError
from common.notices import Notices
from common.plan import Input, Plan, canonical_json
from common.text import quoted, without_userinfo


def _is_of_the_web(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # its port is no number
        return False


class Pacs(Settings):
    """The PACS that images are fetched from, or that sends them."""

    retrieve: Literal["dicomweb", "get", "move"] = "dicomweb"
    url: str | None = Field(
        default=None, description="of DICOMweb, for example https://pacs.example.org/dicom-web"
    )
    token: str | None = Field(default=None, description="file with a bearer token for DICOMweb")
    host: str | None = Field(default=None, description="of the PACS, for get and move")
    port: int = Field(default=104, ge=1, le=65535)
    title: str | None = Field(default=None, description="the PACS's application entity title")
    own_title: str = Field(
        default="PNEUMOFED", min_length=1, max_length=16, description="ours, as the PACS knows it"
    )
    listen: str = Field(
        default="127.0.0.1", description="address on which we take images, for move and client receive"
    )
    own_port: int = Field(default=11112, ge=1, le=65535)
    images_per_second: float = Field(
        default=50.0, gt=0.0, description="at most, so that the PACS's users notice nothing"
    )

    @model_validator(mode="after")
    def _complete(self) -> "Pacs":
        if self.retrieve == "dicomweb" and not _is_of_the_web(self.url or ""):
            shown = self.url and without_userinfo(self.url)
            raise ValueError(f"retrieve is dicomweb: found the url {shown!r}, expected http(s)://…")
        if self.retrieve != "dicomweb" and not (self.host and self.title):
            raise ValueError(f"retrieve is {self.retrieve}: expected host and title of the PACS")
        return self

    @property
    def where(self) -> str:
        """How it is called in what is said of it."""
        if self.retrieve == "dicomweb":
            return without_userinfo(self.url or "")
        return f"{self.title} at {self.host}:{self.port}"


class Data(Settings):
    """Where the hospital's images are (docs/data.md)."""

    dicom: str | None = Field(
        default=None, description="folder with DICOM files and labels.csv; default images/ of this folder"
    )
    labels: str | None = Field(
        default=None, description="CSV or parquet; default labels.csv or labels.parquet beside the images"
    )
    pacs: Pacs | None = None


class Hospital(Settings):
    """One site's settings. They are read anew for every message: a change of the policy works at once."""

    server: str = Field(description="host:port of the federation's server")
    proxy: str | None = Field(default=None, description="the hospital's forward proxy, http://host:port")
    device: str = Field(default="auto", description="auto, cpu, cuda or cuda:n")
    threads: int | None = Field(
        default=None, ge=1, le=1024, description="of training on a CPU; default all cores"
    )
    data: Data = Data()
    policy: Policy = Policy()
    health_port: int | None = Field(default=None, ge=1, le=65535, description="gRPC health on loopback")
    metrics_port: int | None = Field(
        default=None, ge=1, le=65535, description="Prometheus /metrics on loopback"
    )
    notices: Notices | None = Field(default=None, description="who is told that a plan waits for a decision")
    curves: tuple[Kind, ...] = Field(
        default=(), strict=False, description="of this site's training for TensorBoard or MLflow, in curves/"
    )

    @field_validator("server")
    @classmethod
    def _host_and_port(cls, server: str) -> str:
        host, colon, port = server.rpartition(":")
        if not (host and colon and port.isdecimal() and 1 <= int(port) <= 65535):
            raise ValueError(f"found {server!r}, expected HOST:PORT, for example fed.example.org:443")
        return server

    @field_validator("proxy")
    @classmethod
    def _url(cls, proxy: str | None) -> str | None:
        if proxy is not None and not _is_of_the_web(proxy):
            raise ValueError(f"found {without_userinfo(proxy)!r}, expected http://HOST:PORT")
        return proxy


class SiteFolder:
    """The files of one site, by name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.settings_file = path / "hospital.yaml"
        self.key, self.certificate = path / "site.key", path / "site.crt"
        self.ca, self.revoked, self.request = path / "ca.crt", path / "ca.crl", path / "request.pem"
        self.secret = path / "pseudonym.key"
        self.plans, self.cohorts, self.logs = path / "plans", path / "cohorts", path / "logs"
        self.cohorts_lock = path / ".cohorts.lock"
        self.images, self.forgotten = path / "images", path / "forgotten.json"
        self.curves = path / "curves"
        self.arrived, self.filed = path / "arrived", path / "filed.json"
        self.filed_lock = path / ".filed.lock"
        self.once, self.once_lock = path / "arrived-once", path / ".once.lock"
        self.next_key = path / "next.key"
        self.identity, self.peers = path / "identity.key", path / "peers.json"
        self.audit, self.ledger = path / "audit.log", path / "ledger.sqlite"
        self.node = path / "node.json"
        self.lock = path / ".lock"

    def settings(self) -> Hospital:
        """Raises ConfigError if the folder is not a site's, or its settings are wrong."""
        if not self.settings_file.is_file():
            raise ConfigError(
                f"{self.path}: not a hospital's folder; make one with: "
                f"pneumofed client init {quoted(self.path)} --server HOST:443 --ca FILE"
            )
        return load_yaml(self.settings_file, Hospital)

    def cohort(self, plan: Plan) -> Path:
        """Where the cohort for the plan's input contract lies: plans with the same contract share it."""
        return self.cohorts / contract_id(plan.input, plan.findings)

    def cohort_identity(self, plan: Plan) -> str:
        """SHA-256 of the cohort's description, with its fingerprint; empty if there is none."""
        try:
            return hashlib.sha256((self.cohort(plan) / "cohort.json").read_bytes()).hexdigest()
        except FileNotFoundError:
            return ""

    def alone(self, plan: Plan) -> Path:
        """Where the model lies that the site trains by itself (client/alone.py). Another cohort, as after a
        patient was forgotten, is another model."""
        return self.path / "alone" / f"{plan.sha256[:16]}-{self.cohort_identity(plan)[:16]}"

    def pretrained(self, plan: Plan) -> Path | None:
        """The file that a plan starts from, if somebody put it here: with a codec it need not travel."""
        file = self.path / "pretrained" / f"{plan.model.pretrained}.safetensors"
        return file if file.is_file() else None

    def memory(self, sha256: str) -> Path:
        """Where methods keep tensors of runs of a plan (client/methods/memory.py)."""
        return self.path / "memory" / sha256


def contract_id(contract: Input, findings: tuple[str, ...]) -> str:
    """Twelve hex digits that stand for an input contract and its findings."""
    text = canonical_json([contract.model_dump(mode="json"), list(findings)])
    return hashlib.sha256(text.encode()).hexdigest()[:12]
