"""Many real clients against one deployed server: each with its own key, certificate and admission, over
mutual TLS, by the link that an agent has; threads of a few processes, on loopback. They train nothing: an
update of random numbers, new in every round.

`deployed(n)` -> what a round costs the server and everybody. Run by run.py.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np
from flwr.app import Message, MetricRecord, RecordDict

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT))  # for tests.helpers, which makes folders of a server and of sites

from client.link_errors import OverError  # noqa: E402
from client.settings import SiteFolder  # noqa: E402
from common import wire  # noqa: E402
from common.errors import LinkError  # noqa: E402
from common.plan import Evaluation, Federation, Model, Plan  # noqa: E402
from tests.helpers.deployment import Deployment, wait_for  # noqa: E402
from tests.helpers.local_sites import honest, link_of  # noqa: E402

IN_A_PROCESS = 75
WARM_UP = 2


def plan_of(rounds: int) -> Plan:
    """A model of 0.2 M parameters, 0.9 MB."""
    return Plan(
        name="clients", rounds=rounds, model=Model(embedding=64, hidden=160), evaluation=Evaluation(every=0),
        federation=Federation(quorum=1.0),
    )  # fmt: skip


def deployed(n: int, rounds: int) -> dict[str, float]:
    """Medians over the rounds after the first two; sizes of the server, at its largest."""
    with tempfile.TemporaryDirectory(prefix="pf-") as folder:
        d = Deployment(Path(folder), plan_of(rounds))
        d.make_server()
        names = [f"site-{i:03d}" for i in range(1, n + 1)]
        for name in names:
            d.make_site(name, n_patients=0)
        started: list[subprocess.Popen[bytes]] = []

        def start(*words: str) -> int:
            with Path(folder, "log").open("ab") as log:
                started.append(subprocess.Popen([sys.executable, *words], stdout=log, stderr=log, cwd=ROOT))
            return started[-1].pid

        try:
            server = start("-m", "pneumofed.cli", "server", "up", "--dir", str(d.server.path))
            wait_for("the server", d.answers, 60)
            idle = memory_mb(server)
            for first in range(0, n, IN_A_PROCESS):
                start(__file__, folder, *names[first : first + IN_A_PROCESS])
            began = time.perf_counter()
            until(lambda: len(d.status()["connected"]) == n)
            joined = time.perf_counter() - began
            peaks, ended = {"descriptors": 0.0, "threads": 0.0}, threading.Event()
            watch = threading.Thread(target=follow, args=(server, peaks, ended))
            watch.start()
            run, before = d.run(sites=n), cpu_seconds(server)
            until(lambda: d.status()["runs"].get(run, {}).get("state") not in ("running", "queued", None))
            if (ended_as := d.status()["runs"][run])["state"] != "finished":
                raise SystemExit(f"{n} sites: {ended_as}")
            history = d.history(run)
            spent = cpu_seconds(server) - before
            ended.set()
            watch.join()
            if any(len(report["sites"]) < n for report in history):
                raise SystemExit(
                    f"of {n} sites some failed: {[r['failed'] for r in history if r['failed']][:1]}"
                )
            return {
                "seconds": statistics.median(report["seconds"] for report in history[WARM_UP:]),
                "cpu_s": spent / rounds, "joined_s": joined,
                "whole_mb": memory_mb(server), "megabytes": memory_mb(server) - idle,
                "bytes": history[-1]["bytes_up"] + history[-1]["bytes_down"], **peaks,
            }  # fmt: skip
        finally:
            for process in started:
                process.kill()
                process.wait()


def until(done: Callable[[], bool]) -> None:
    """Ask seldom: an answer costs the server what a site's message does."""
    end = time.monotonic() + 900.0
    while not done():
        if time.monotonic() > end:
            raise SystemExit("the sites took longer than a quarter of an hour")
        time.sleep(1.0)


def follow(pid: int, peaks: dict[str, float], ended: threading.Event) -> None:
    """The most descriptors and threads of a process."""
    while not ended.wait(0.05) and Path(f"/proc/{pid}").exists():
        for name, folder in (("descriptors", "fd"), ("threads", "task")):
            peaks[name] = max(peaks[name], float(len(os.listdir(f"/proc/{pid}/{folder}"))))


def cpu_seconds(pid: int) -> float:
    """User and system time of one process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(pid: int) -> float:
    """Largest resident size of one process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


_rounds = count()


def answer(name: str, message: Message) -> Message:
    """As a site of 20 patients; an update that nobody sent before."""
    if message.metadata.message_type != "train":
        return honest(name, message)
    from safetensors.numpy import load

    rng = np.random.default_rng([next(_rounds), os.getpid()])
    asked = load(bytes(wire.get_arrays(message.content)[wire.PACKED].data))
    update = {k: rng.standard_normal(w.shape, dtype=np.float32) * np.float32(1e-4) for k, w in asked.items()}
    numbers = MetricRecord({wire.N_EXAMPLES: 20, wire.LOSS: 0.5, wire.STEPS: 1, wire.SECONDS: 0.0})
    return Message(RecordDict({wire.ARRAYS: wire.pack(update), wire.METRICS: numbers}), reply_to=message)


def client(folder: SiteFolder, name: str) -> None:
    """One site, for ever; an answer that did not arrive is sent again, as an agent does."""
    link, reply = link_of(folder), None
    while True:
        try:
            link.connect()
            while True:
                if reply is None:
                    message = link.receive(lambda: 2**26, wait_s=10)
                    reply = message and answer(name, message)
                if reply is not None:
                    link.send(reply)
                    reply = None
        except OverError:
            reply = None
        except LinkError as e:
            print(json.dumps({"at": time.time(), "site": name, "problem": str(e)}), flush=True)
            time.sleep(0.5)


if __name__ == "__main__":
    sites = [
        threading.Thread(target=client, args=(SiteFolder(Path(sys.argv[1], name)), name))
        for name in sys.argv[2:]
    ]
    for site in sites:
        site.start()
    for site in sites:
        site.join()
