"""A federation of real processes on loopback: one server, hospitals with agents, driven by the commands of
the documentation."""

import json
import os
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from client.imaging.cohort import build_cohort
from client.imaging.outcome import Tally
from client.imaging.sequence import Collection
from client.settings import SiteFolder
from common.config import dump_yaml
from common.plan import Plan
from server.settings import ServerFolder
from tests.helpers import warm
from tests.helpers.cohorts import make_sequences
from tests.helpers.command import run_here


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(what, condition, timeout=90.0):
    """What `condition` returns once it is true; what it returned last is in the failure's text."""
    end = time.monotonic() + timeout
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"waited {timeout} s for {what}; last: {found!r}")
        time.sleep(0.1)


@dataclass
class Deployment:
    """Folders, processes and commands. Every process it starts is its own, and ended by its number."""

    path: Path
    plan: Plan
    port: int = field(default_factory=free_port)
    processes: dict[str, subprocess.Popen | warm.Program] = field(default_factory=dict)
    prefix: dict[str, list[str]] = field(default_factory=dict)
    """Name -> a command in front of its process: a namespace, another clock."""

    @property
    def server(self) -> ServerFolder:
        return ServerFolder(self.path / "server")

    def site(self, name: str) -> SiteFolder:
        return SiteFolder(self.path / name)

    def command(
        self, *args: str, timeout: float = 60, prefix: list[str] | None = None
    ) -> subprocess.CompletedProcess:
        """In this process; with a `prefix` in one of its own."""
        if prefix is None:
            return run_here(*args)
        words = [*prefix, *warm.command(), *args]
        return subprocess.run(words, capture_output=True, text=True, timeout=timeout, check=False)

    def must(self, *args: str, **kwargs) -> str:
        done = self.command(*args, **kwargs)
        assert done.returncode == 0, f"{args}: {done.stdout}{done.stderr}"
        return done.stdout

    def ask(self, *args: str) -> str:
        """A server command in its folder."""
        return self.must("server", *args, "--dir", str(self.server.path))

    def at(self, name: str, *args: str) -> str:
        """A client command in a site's folder."""
        return self.must("client", *args, "--dir", str(self.site(name).path))

    def make_server(self, **settings) -> None:
        from server.provision import init_server
        from server.settings import ServerSettings

        init_server(
            self.server,
            ServerSettings(**{"host": "127.0.0.1", "listen": "127.0.0.1", "port": self.port, **settings}),
        )

    def make_site(self, name: str, n_patients: int = 30, server: str | None = None, **settings) -> None:
        """As `client init`, `server admit`, `client join`, `client ingest` do; the journey tests run the
        commands."""
        from client.provision import init_site, join
        from client.settings import Hospital
        from server.provision import admit

        hospital = Hospital(server=server or f"127.0.0.1:{self.port}", device="cpu", threads=1, **settings)
        init_site(self.site(name), hospital, self.server.ca_certificate)
        join(self.site(name), admit(self.server, name, self.site(name).request))
        if n_patients:
            self.make_cohort(name, n_patients)

    def make_cohort(self, name: str, n_patients: int = 30) -> None:
        seed = int(name.rpartition("-")[2]) if name[-1].isdigit() else 0
        sequences = make_sequences(n_patients, seed, len(self.plan.findings), self.plan.input.size)
        folder = self.site(name).cohort(self.plan)
        build_cohort(
            folder, Collection(sequences, Tally()), self.plan.input, self.plan.findings, b"key", "stamp"
        )

    def set(self, name: str, **changes) -> None:
        """Change hospital.yaml as a person would."""
        path = self.site(name).settings_file
        path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **changes}))

    def approve(self, *names: str, plan: Plan | None = None) -> None:
        """Approve the plan before it was proposed, as after an earlier run: what most tests are not about."""
        from client.governance.approval import Approvals

        plan = plan or self.plan
        for name in names:
            approvals = Approvals(self.site(name).plans)
            approvals.propose(plan.model_dump(mode="json"), plan.sha256)
            approvals.approve(plan.sha256)

    def start(self, name: str) -> None:
        """Start the server or a site's agent."""
        words = ["server" if name == "server" else "client", "up", "--dir", str(self.path / name)]
        log = self.path / f"{name}.out"
        if name in self.prefix:
            with log.open("ab") as file:
                self.processes[name] = subprocess.Popen(
                    [*self.prefix[name], *warm.command(), *words],
                    stdout=file, stderr=file, start_new_session=True,
                )  # fmt: skip
        else:
            self.processes[name] = warm.Program(words, log, log)
        if name == "server":
            wait_for("the server", lambda: self.processes[name].poll() is None and self.answers(), 30)

    def answers(self) -> bool:
        from common.errors import RunError
        from server.ask import ask

        try:
            return bool(ask(self.server, "/status"))
        except RunError:
            return False

    def up(self, *names: str) -> None:
        for name in ("server", *names):
            self.start(name)

    def kill(self, *names: str) -> None:
        """kill -9, the workers that train included."""
        for name in names:
            process = self.processes.pop(name)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def end(self, name: str) -> int:
        process = self.processes.pop(name)
        process.terminate()
        return process.wait(timeout=30)

    def write_plan(self, plan: Plan | None = None) -> Path:
        path = self.path / "plan.yaml"
        path.write_text(dump_yaml(plan or self.plan))
        return path

    def run(self, *more: str, sites: int | None = None) -> str:
        """`server run`; returns the run's name."""
        more = [*more, *(["--sites", str(sites)] if sites is not None else [])]
        return self.ask("run", str(self.write_plan()), *more).split()[1]

    def status(self) -> dict:
        from common.errors import RunError
        from server.ask import ask

        try:
            return ask(self.server, "/status")
        except RunError:
            return {"running": None, "runs": {}, "connected": []}

    def wait_finished(self, name: str, timeout: float = 300.0) -> dict:
        about = wait_for(
            f"the run {name} to end",
            lambda: (a := self.status()["runs"].get(name)) and a["state"] not in ("running", "queued") and a,
            timeout,
        )
        assert about["state"] == "finished", f"{about}\n{self.log('server')}"
        return self.history(name)

    def wait_round(self, name: str, number: int, timeout: float = 90.0) -> None:
        def there():
            running = self.status()["running"]
            return running and running["round"] >= number

        wait_for(f"round {number}", there, timeout)

    def history(self, name: str) -> list[dict]:
        return json.loads((self.server.runs / name / "history.json").read_text())

    def weights(self, name: str) -> dict:
        from safetensors.numpy import load_file

        return load_file(self.server.runs / name / "model.safetensors")

    def log(self, name: str) -> str:
        return (self.path / f"{name}.out").read_text(errors="replace")

    def audit(self, name: str) -> list[dict]:
        path = self.site(name).audit
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
