"""The three journeys of docs/coordinator.md and docs/hospital.md, by their commands, with DICOM files and
real processes."""

import json
import re
import sys
import urllib.request

import grpc
import pytest
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc

from common.audit import verify
from common.config import load_yaml
from common.plan import Plan
from tests.helpers.deployment import Deployment, free_port, wait_for
from tests.helpers.plans import deployed_plan, small_plan
from tests.helpers.tools import require_tool

pytestmark = pytest.mark.slow

PLAN = deployed_plan(rounds=2, input={"size": 16, "max_frames": 4})


def refused(d, *args):
    """A command that must fail in one line with exit code 2; returns the line."""
    done = d.command(*args)
    assert done.returncode == 2, done
    assert done.stderr.count("\n") == 1, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    return done.stderr


def telling(path):
    """A command that appends what it is told."""
    code = f"import os, sys; open({str(path)!r}, 'a').write(os.environ['PNEUMOFED_SUBJECT'] + '|' + sys.stdin.read())"
    return [sys.executable, "-c", code]


@pytest.fixture
def empty(deployment):
    """A Deployment with nothing in it yet."""
    d = deployment(0)
    import shutil

    shutil.rmtree(d.server.path)
    d.plan = PLAN
    return d


def health_of(port, service):
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        return (
            health_pb2_grpc.HealthStub(channel)
            .Check(health_pb2.HealthCheckRequest(service=service), timeout=5)
            .status
        )


def metrics_of(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as response:
        return response.read().decode()


def test_from_nothing_to_a_model(empty, tmp_path):
    d: Deployment = empty
    ports = [free_port() for _ in range(4)]
    # The coordinator makes the server.
    said = d.must("server", "init", str(d.server.path), "--host", "127.0.0.1", "--port", str(d.port))
    assert re.search(r"([0-9A-F]{2}:){31}[0-9A-F]{2}", said)
    settings = yaml.safe_load(d.server.settings_file.read_text())
    own = {"listen": "127.0.0.1", "health_port": ports[0], "metrics_port": ports[1]}
    own |= {"notices": {"command": telling(tmp_path / "coordinator")}}
    d.server.settings_file.write_text(yaml.safe_dump({**settings, **own}))
    assert "no server is running" in refused(d, "server", "status", "--dir", str(d.server.path))
    d.start("server")
    # Two hospitals join; their images are synthetic DICOM files.
    d.must("phantom", "--out", str(tmp_path / "dicom"), "--sites", "2", "--patients", "60", timeout=120)
    names = ["hospital-a", "hospital-b"]
    folders = sorted((tmp_path / "dicom").iterdir())
    for name, images in zip(names, folders, strict=True):
        site = d.site(name)
        told = d.must(
            "client",
            "init",
            str(site.path),
            "--server",
            f"127.0.0.1:{d.port}",
            "--ca",
            str(d.server.ca_certificate),
        )
        assert re.search(r"([0-9A-F]{2}:){31}[0-9A-F]{2}", told) is not None
        assert "fails  admission" in d.command("client", "check", "--dir", str(site.path)).stdout
        d.ask("admit", name, str(site.request))
        d.at(name, "join", str(d.server.certificates / f"{name}.crt"))
        d.set(name, device="cpu", threads=1, data={"dicom": str(images)})
        assert "none was proposed yet" in d.at(name, "check")
    notices = {"command": telling(tmp_path / "told")}
    d.set("hospital-a", health_port=ports[2], metrics_port=ports[3], notices=notices)
    for name in names:
        d.start(name)
    wait_for("both sites", lambda: d.status()["connected"] == names)
    assert d.ask("sites").count(" connected ") == 2
    # A run is proposed, looked at, approved, and trained.
    run = d.run()
    assert "Run small-2 is queued, number 1: it begins by itself" in d.ask("run", str(d.path / "plan.yaml"))
    assert "small-2 is cancelled" in d.ask("cancel", "small-2")
    sha = PLAN.sha256
    wait_for("the proposal", lambda: sha in d.at("hospital-a", "pending"))
    shown = d.at("hospital-a", "pending")
    assert "No plan was approved before" in shown
    assert "learning_rate: 0.05" in shown
    told = wait_for("the notice", lambda: (p := tmp_path / "told").exists() and p.read_text())
    assert told.startswith("pneumofed at hospital-a: a plan waits for a decision|")
    assert sha[:12] in told
    wait_for("the reason", lambda: "awaits approval at this site" in d.ask("status"))
    for name in names:
        assert "Approved by" in d.at(name, "approve", sha[:12])
        assert "sequences" in d.at(name, "ingest", sha[:12])
        d.at(name, "check")
    history = d.wait_finished(run, timeout=150)
    assert [sorted(r["sites"]) for r in history] == [names] * 2
    assert load_yaml(d.server.runs / run / "plan.yaml", Plan).sha256 == sha
    # What left is written down, and nothing that names a patient is anywhere but in the images.
    assert {e["event"] for e in d.audit("hospital-a")} >= {"received", "refused", "admitted", "sent"}
    assert d.at("hospital-a", "audit", "--last", "3").count("\n") == 3
    assert f"{verify(d.site('hospital-a').audit)[0]} entries" in d.at("hospital-a", "audit", "verify")
    rows = (folders[0] / "labels.csv").read_text().splitlines()[1:]
    patients = {row.split(",")[0] for row in rows}
    assert len(patients) == 60
    written = (
        d.log("hospital-a")
        + d.site("hospital-a").audit.read_text()
        + (d.site("hospital-a").logs / "agent.log").read_text()
    )
    assert not [p for p in patients if p in written]
    for line in d.log("hospital-a").splitlines():
        assert {"time", "level", "logger", "message"} <= json.loads(line).keys()
    # Monitoring, on loopback.
    serving = health_pb2.HealthCheckResponse.SERVING
    assert health_of(ports[0], "pneumofed.server") == health_of(ports[2], "pneumofed.client") == serving
    assert 'pneumofed_answers_total{outcome="train"} 2.0' in metrics_of(ports[3])
    assert "pneumofed_sites_connected 2.0" in metrics_of(ports[1])
    assert 'pneumofed_round{run="small"} 2.0' in metrics_of(ports[1])
    # A second run of the same plan needs a further approval; a changed plan is shown as a difference; a
    # denied one is refused.
    second = d.run()
    wait_for("the refusal", lambda: "approve it again" in d.ask("status"))
    for name in names:
        assert "for 2 runs in all" in d.at(name, "approve", sha[:12])
    assert len(d.wait_finished(second)) == 2
    told = wait_for("the notice", lambda: (p := tmp_path / "coordinator").exists() and p.read_text())
    assert f"pneumofed server: run {run} finished|" in told
    entries = [json.loads(line) for line in d.ask("audit", "--format", "json", "--last", "0").splitlines()]
    done = [entry["event"] for entry in entries]
    assert done[:6] == ["made", "admitted", "admitted", "runs", "runs", "cancels"]
    ended = [entry for entry in entries if entry["event"] == "finished"]
    assert [(entry["run"], entry["by"]) for entry in ended] == [(run, "server"), (second, "server")]
    assert all(len(entry["model"]) == 64 for entry in ended)
    assert "the chain is whole" in d.ask("audit", "verify")
    d.plan = small_plan(**{**PLAN.model_dump(), "rounds": 3})
    d.run()
    wait_for("the proposal", lambda: d.plan.sha256 in d.at("hospital-b", "pending"))
    assert "rounds: 2 -> 3" in d.at("hospital-b", "pending")
    d.at("hospital-b", "deny", d.plan.sha256[:12])
    wait_for("the refusal", lambda: "was denied by this site" in d.ask("status"), 100)
    d.ask("stop")
    # A site is revoked: its next request is refused.
    d.ask("revoke", "hospital-b")
    wait_for("the refusal", lambda: "does not admit this site" in d.log("hospital-b"))
    assert "hospital-b               revoked" in d.ask("sites")
    wait_for("the watch", lambda: health_of(ports[2], "") == serving)
    assert d.end("hospital-a") == 0


def test_a_site_works_through_a_forward_proxy(deployment):
    tinyproxy = require_tool("tinyproxy")
    through_a_proxy(
        deployment,
        lambda path, port: (
            [tinyproxy, "-d", "-c", str(path)],
            f"Port {port}\nListen 127.0.0.1\nAllow 127.0.0.1\n",
        ),
    )


def test_a_site_works_through_squid_and_is_told_what_squid_forbids(deployment):
    squid = require_tool("squid")

    def configuration(path, port):
        text = (
            f"http_port 127.0.0.1:{port}\npid_filename none\ncache deny all\naccess_log none\ncache_log /dev/null\n"
            "acl federation port PORT\nhttp_access allow CONNECT federation\nhttp_access deny all\n"
            "shutdown_lifetime 1 seconds\n"
        )
        return [squid, "-N", "-f", str(path)], text

    d = through_a_proxy(deployment, configuration)
    d.set("site-1", server="127.0.0.1:9")  # a port that the proxy does not let through
    said = d.command("client", "check", "--dir", str(d.site("site-1").path)).stdout
    assert "the proxy does not let us through" in said


def through_a_proxy(deployment, configuration):
    import os
    import subprocess

    d = deployment(1, deployed_plan(rounds=1))
    port = free_port()
    words, text = configuration(d.path / "proxy.conf", port)
    (d.path / "proxy.conf").write_text(text.replace("PORT", str(d.port)) if "acl" in text else text)
    os.chmod(d.path, 0o755)
    d.processes["proxy"] = subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    d.set("site-1", proxy=f"http://127.0.0.1:{port}")
    d.start("server")
    wait_for(
        "the proxy",
        lambda: "through http" in d.command("client", "check", "--dir", str(d.site("site-1").path)).stdout,
    )
    d.start("site-1")
    d.wait_finished(d.run())
    proxies = set(connections(d.processes["site-1"].pid))
    assert port in proxies
    assert d.port not in proxies
    return d


def connections(pid):
    """Ports that the process is connected to."""
    from pathlib import Path

    inodes = {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()}
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [int(row[2].split(":")[1], 16) for row in rows if f"socket:[{row[9]}]" in inodes]
