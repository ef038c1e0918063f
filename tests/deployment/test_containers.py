"""Both containers: built from the signed bundle without any network, run with no rights, in one federation."""

import json

import pytest

from tests.helpers.bundles import make_bundle, make_key
from tests.helpers.containers import CONFINED, LIMITS, Podman, a_podman
from tests.helpers.deployment import wait_for

pytestmark = pytest.mark.slow
PNEUMOFED, PORT = "/opt/pneumofed/.venv/bin/pneumofed", 8443
LIGHT = (
    "cryptography", "fastapi", "flwr>=1.41,<1.42", "grpcio-health-checking", "httpx", "jinja2", "numpy",
    "prometheus-client", "pydantic>=2.12", "pydicom", "pyyaml", "rich", "safetensors", "typer", "uvicorn[standard]",
    "zstandard",
)  # fmt: skip
"""What a server and an agent load while nobody trains: the rest is three gigabytes."""


def build(podman: Podman, folder, side, python, key, check=True):
    return podman(
        "build", "--network", "none", *LIMITS, "-f", folder / "deploy" / f"Containerfile.{side}",
        "--build-arg", f"PYTHON={python}", "--secret", f"id=key,src={key}", "-t", f"pneumofed-{side}", folder, check=check,
    )  # fmt: skip


class Side:
    """One side's container: it and what is typed beside it share a volume and, as the two machines' only network, a
    loopback."""

    def __init__(self, podman: Podman, side, network, desk):
        self.podman, self.side = podman, side
        self.options = (
            "--network",
            network,
            *LIMITS,
            *CONFINED,
            "-v",
            f"{side}:/data",
            "-v",
            f"{desk}:/desk",
        )

    def type(self, *words, program=PNEUMOFED):
        """In a container of its own that is gone afterwards."""
        image = f"localhost/pneumofed-{self.side}"
        return self.podman("run", "--rm", *self.options, "--entrypoint", program, image, *words).stdout

    def up(self):
        self.podman("run", "--detach", "--name", self.side, *self.options, f"localhost/pneumofed-{self.side}")

    def inside(self, *words, check=True):
        return self.podman("exec", self.side, *words, check=check)

    def end(self):
        """Its exit code, ended in order."""
        self.podman("stop", "--time", "20", self.side)
        return json.loads(self.podman("inspect", self.side).stdout)[0]["State"]["ExitCode"]


def test_both_sides_work_with_no_rights_on_a_read_only_file_system(tmp_path):
    desk = tmp_path / "desk"
    desk.mkdir()
    desk.chmod(0o777)  # files are handed over on it, by an ordinary user
    (key, public), (_, stranger) = make_key(tmp_path, "release"), make_key(tmp_path, "stranger")
    with a_podman() as podman:
        python = podman.import_base()
        folder = make_bundle(tmp_path, key, LIGHT)
        if f"cp{python.replace('.', '')}-" not in folder.name:
            pytest.skip(f"the bundle is for this Python, Debian's is {python}")
        refused = build(podman, folder, "server", python, stranger, check=False)
        assert "not signed with" in refused.stdout + refused.stderr
        for side in ("server", "client"):
            build(podman, folder, side, python, public)
        server, client = (
            Side(podman, "server", "none", desk),
            Side(podman, "client", "container:server", desk),
        )
        server.type("server", "init", "/data/server", "--host", "localhost", "--port", PORT)
        server.up()
        wait_for(
            "the server", lambda: not server.inside(PNEUMOFED, "server", "status", check=False).returncode
        )
        server.inside("cp", "/data/server/ca.crt", "/desk")
        client.type("client", "init", "/data/site", "--server", f"localhost:{PORT}", "--ca", "/desk/ca.crt")
        client.type("/data/site/request.pem", "/desk", program="cp")
        server.inside(PNEUMOFED, "server", "admit", "north", "/desk/request.pem")
        server.inside("cp", "/data/server/certificates/north.crt", "/desk")
        client.type("client", "join", "/desk/north.crt")
        client.up()
        status = (PNEUMOFED, "server", "status", "--json")
        wait_for("north", lambda: json.loads(server.inside(*status).stdout)["connected"] == ["north"])
        for side in (server, client):
            assert side.inside("id", "-u").stdout.strip() == "10001"
            assert "Read-only" in side.inside("touch", "/opt/x", check=False).stderr
            about = side.inside("cat", "/proc/1/status").stdout
            rights = dict(line.split(":\t") for line in about.splitlines() if ":\t" in line)
            assert int(rights["CapBnd"], 16) == int(rights["CapEff"], 16) == 0
            assert rights["NoNewPrivs"] == "1"
        server.inside(PNEUMOFED, "server", "audit", "verify")
        assert [client.end(), server.end()] == [0, 0]
