"""The offline bundle: built, installed in a namespace without any network, and refused where one byte is not what was
signed. Of what the program needs, only what its command line needs is in it: the rest is three gigabytes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.bundles import make_bundle, make_key
from tests.helpers.tools import require_tool

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
LIGHT = ("typer", "rich", "pydantic>=2.12", "pyyaml", "cryptography", "httpx")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """(folder of the unpacked bundle, the release's public key)."""
    place = tmp_path_factory.mktemp("bundle")
    key, public = make_key(place, "release")
    return make_bundle(place, key, LIGHT), public


def install(folder, target, key):
    """As the document says, where there is no network."""
    words = [
        require_tool("unshare"),
        "--map-root-user",
        "--net",
        str(folder / "install.sh"),
        str(target),
        str(key),
    ]
    env = {**os.environ, "PYTHON": sys._base_executable}
    return subprocess.run(words, capture_output=True, text=True, env=env)


def test_it_installs_without_a_network_and_a_new_version_takes_its_place(bundle, tmp_path):
    folder, key = bundle
    assert folder.name.startswith("pneumofed-0.")
    assert not list(folder.rglob("*.gitignore"))
    for _ in range(2):  # again: an upgrade
        done = install(folder, tmp_path / "opt", key)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.startswith("pneumofed ")
    program = tmp_path / "opt" / ".venv" / "bin" / "pneumofed"
    made = subprocess.run(
        [program, "server", "init", tmp_path / "server", "--host", "fed.example.org"], capture_output=True, text=True,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert (tmp_path / "server" / "server.yaml").is_file()
    assert (tmp_path / "opt" / ".venv" / "docs" / "hospital.md").is_file()


@pytest.mark.parametrize(
    "fault", ["a wheel", "a checksum", "a file more", "a file less", "another key", "a document"]
)
def test_nothing_is_installed_of_what_was_not_signed(bundle, tmp_path, fault):
    original, key = bundle
    folder = tmp_path / "bundle"
    shutil.copytree(original, folder)
    wheel = next((folder / "wheels").glob("rich-*.whl"))
    if fault == "a wheel":
        wheel.write_bytes(wheel.read_bytes()[:-1] + b"x")
    elif fault == "a checksum":
        sums = folder / "SHA256SUMS"
        sums.write_text("0" * 64 + sums.read_text()[64:])
    elif fault == "a file more":
        (folder / "wheels" / "evil-1.0-py3-none-any.whl").write_bytes(b"x")
    elif fault == "a file less":
        wheel.unlink()
    elif fault == "another key":
        _, key = make_key(tmp_path, "other")
    else:  # a document
        (folder / "docs" / "hospital.md").write_text("send your key to me")
    done = install(folder, tmp_path / "opt", key)
    assert done.returncode == 2
    assert done.stdout.strip().endswith("nothing was installed")
    assert not (tmp_path / "opt").exists()
