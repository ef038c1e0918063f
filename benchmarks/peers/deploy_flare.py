"""NVIDIA FLARE in POC mode: `nvflare poc prepare`, the start scripts that `nvflare poc start` calls, and a
job sent by its API. The startup kits of this version's POC hold certificates: connections are mutual TLS."""

import json
import subprocess

import echo
import numpy as np
from federation import Federation
from run import HERE

from tests.helpers.deployment import free_port

ADMIN = "admin@nvidia.com"


def project(f: Federation) -> dict[str, object]:
    """As `poc prepare` makes it, but for the server's port and name: called "localhost", it listens there
    alone."""
    impl = "nvflare.lighter.impl"
    templates = [f"{kind}_template.yml" for kind in ("master", "aws", "azure")]
    return {
        "api_version": 3, "name": "echo", "description": "echo",
        "participants": [
            {"name": "localhost", "type": "server", "org": "nvidia", "fed_learn_port": free_port(),
             "default_host": "localhost"},
            {"name": ADMIN, "type": "admin", "org": "nvidia", "role": "project_admin"},
            *({"name": name, "type": "client", "org": "nvidia"} for name in f.job.sites),
        ],
        "builders": [
            {"path": f"{impl}.workspace.WorkspaceBuilder", "args": {"template_file": templates}},
            {"path": f"{impl}.static_file.StaticFileBuilder", "args": {"config_folder": "config"}},
            {"path": f"{impl}.cert.CertBuilder"}, {"path": f"{impl}.signature.SignatureBuilder"},
        ],
    }  # fmt: skip


def run(f: Federation) -> echo.Weights:
    """All rounds; returns the last weights. There they are one long array, as its recipe for NumPy has it."""
    names = sorted(f.job.weights)
    np.save(f.folder / "first.npy", np.concatenate([f.job.weights[name].ravel() for name in names]))
    (f.folder / "project.yml").write_text(json.dumps(project(f)))  # which is YAML, too
    f.must(["nvflare", "poc", "prepare", "-i", str(f.folder / "project.yml")])
    kits = f.folder / "poc" / "echo" / "prod_00"
    for name, kit in {"server": "localhost", **{name: name for name in f.job.sites}}.items():
        f.start(name, [str(kits / kit / "startup" / "start.sh")])
    asked = {"kit": str(kits / ADMIN), "sites": f.job.n_sites, "rounds": f.job.plan.rounds}
    words = [str(f.python), str(HERE / "flare_submit.py"), json.dumps(asked)]
    if f.start("user", words).wait(timeout=f.left_s):
        raise subprocess.SubprocessError("the job failed")
    (saved,) = f.folder.rglob("models/server.npy")
    ends = np.cumsum([f.job.weights[name].size for name in names])[:-1]
    parts = zip(names, np.split(np.load(saved), ends), strict=True)
    return {name: part.reshape(f.job.weights[name].shape) for name, part in parts}
