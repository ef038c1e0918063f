"""Stock Flower as its documentation deploys it: a SuperLink with TLS and known SuperNodes, each of them with
the CA's certificate and a key of its own, `flwr run` with an app that is sent to all."""

import shutil
import subprocess

import echo
from federation import Federation
from run import HERE
from safetensors.numpy import load_file, save_file

from tests.helpers.deployment import free_port

APP = "flower_app"
PYPROJECT = """
[project]
name = "echo"
version = "1.0.0"
dependencies = []
[tool.flwr.app]
publisher = "pneumofed"
[tool.flwr.app.components]
serverapp = "{app}:server"
clientapp = "{app}:client"
[tool.flwr.app.config]
rounds = {rounds}
sites = {sites}
first = "{folder}/first.safetensors"
last = "{folder}/last.safetensors"
"""
CONNECTION = '[superlink.local]\naddress = "127.0.0.1:{port}"\nroot-certificates = "{folder}/ca.crt"\n'
NAMES = "subjectAltName=DNS:localhost,IP:127.0.0.1"


def make_credentials(f: Federation) -> None:
    """As in Flower's example: a CA and the SuperLink's certificate, RSA-4096; P-384 for each SuperNode."""
    new = ["openssl", "req", "-x509", "-newkey", "rsa:4096", "-nodes", "-days", "2"]
    f.must([*new, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/O=CA"])
    signed = ["-CA", "ca.crt", "-CAkey", "ca.key", "-addext", NAMES, "-addext", "basicConstraints=CA:FALSE"]
    f.must([*new, *signed, "-keyout", "server.key", "-out", "server.pem", "-subj", "/CN=localhost"])
    for name in f.job.sites:
        f.must(["ssh-keygen", "-q", "-t", "ecdsa", "-b", "384", "-N", "", "-f", name])


def make_app(f: Federation) -> None:
    """The folder that `flwr run` packs."""
    (f.folder / "app").mkdir()
    shutil.copy(HERE / f"{APP}.py", f.folder / "app")
    text = PYPROJECT.format(app=APP, rounds=f.job.plan.rounds, sites=f.job.n_sites, folder=f.folder)
    (f.folder / "app" / "pyproject.toml").write_text(text)
    save_file(f.job.weights, f.folder / "first.safetensors")


def run(f: Federation) -> echo.Weights:
    """All rounds; returns the last weights."""
    make_credentials(f)
    make_app(f)
    port = free_port()
    (f.folder / "home").mkdir()
    (f.folder / "home" / "config.toml").write_text(CONNECTION.format(port=port, folder=f.folder))
    f.start("server", [
        "flower-superlink", "--host", "127.0.0.1", "--port", str(port), "--ssl-ca-certfile", "ca.crt",
        "--ssl-certfile", "server.pem", "--ssl-keyfile", "server.key", "--enable-supernode-auth",
        "--disable-runtime-dependency-installation",
    ])  # fmt: skip
    f.wait("the SuperLink", lambda: "Uvicorn running" in (f.folder / "server.log").read_text())
    for name in f.job.sites:
        f.must(["flwr", "supernode", "register", f"{name}.pub", "local"])
        f.start(name, [
            "flower-supernode", "--superlink", f"127.0.0.1:{port}", "--root-certificates", "ca.crt",
            "--auth-supernode-private-key", name, "--node-config", f'site="{name}"',
            "--host", "127.0.0.1", "--port", str(free_port()),
        ])  # fmt: skip
    if f.start("user", ["flwr", "run", "app", "local", "--stream"]).wait(timeout=f.left_s):
        raise subprocess.SubprocessError("flwr run failed")
    return dict(load_file(f.folder / "last.safetensors"))
