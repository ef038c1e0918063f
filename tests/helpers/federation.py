"""A federation on machines that documents are followed on (machines.py): a coordinator's, and hospitals'."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import yaml

from client.governance.approval import Approvals
from client.imaging.cohort import build_cohort
from client.imaging.outcome import Tally
from client.imaging.sequence import Collection
from client.settings import SiteFolder
from common.config import dump_yaml
from common.errors import RunError
from common.plan import Plan
from server.ask import ask
from server.renewal import sites_behind
from server.settings import ServerFolder
from tests.helpers.cohorts import make_sequences
from tests.helpers.deployment import free_port, wait_for
from tests.helpers.machines import ROOT, Machine, sections

POLICY = {"epsilon": 10.0, "delta": 0.01}  # one private run of a test's plan
PROCEDURES = sections(ROOT / "docs" / "procedures.md")


class Federation:
    """Machines of a coordinator and of hospitals, by their names in the document."""

    def __init__(self, path: Path, plan: Plan, *names: str, env: dict[str, str] | None = None) -> None:
        self.path, self.plan, self.port = path, plan, free_port()
        words = {"fed.example.org:443": f"localhost:{self.port}", "fed.example.org": "localhost",
                 "new.example.org:443": f"127.0.0.1:{self.port}", "new.example.org": "127.0.0.1"}  # fmt: skip
        self.words, self.env = words, env or {}
        """Of every machine: which program it runs, its clock."""
        self.machines: dict[str, Machine] = {}
        server = self["the server"]
        server.run(
            "pneumofed server init /var/lib/pneumofed/server --host fed.example.org --port "
            f"{self.port}\nsed -i 's/^listen: .*/listen: 127.0.0.1/' /var/lib/pneumofed/server/server.yaml\n"
            "systemctl start pneumofed-server\ncp /var/lib/pneumofed/server/ca.crt ."
        )
        wait_for("the server", self.answers, 30)
        for seed, name in enumerate(names, start=1):
            self.join(name, seed)

    def __getitem__(self, name: str) -> Machine:
        if name not in self.machines:
            self.machines[name] = Machine(self.path / name.replace(" ", "-"), self.words, dict(self.env))
        return self.machines[name]

    def join(self, name: str, seed: int) -> None:
        server, site = self["the server"], self[name]
        server.bring(site, "ca.crt")
        site.run("pneumofed client init /var/lib/pneumofed/site --server fed.example.org:443 --ca ca.crt\n"
                 "cp /var/lib/pneumofed/site/request.pem .")  # fmt: skip
        site.bring(server, "request.pem")
        server.run(
            f"pneumofed server admit {name} request.pem\ncp /var/lib/pneumofed/server/certificates/{name}.crt ."
        )
        server.bring(site, f"{name}.crt")
        site.run(f"pneumofed client join {name}.crt")
        folder = self.site(name)
        settings = yaml.safe_load(folder.settings_file.read_text())
        folder.settings_file.write_text(
            yaml.safe_dump({**settings, "device": "cpu", "threads": 1, "policy": POLICY})
        )
        sequences = make_sequences(30, seed, 1, self.plan.input.size)
        build_cohort(
            folder.cohort(self.plan),
            Collection(sequences, Tally()),
            self.plan.input,
            self.plan.findings,
            b"key",
            "stamp",
        )
        self.approve(name, self.plan)
        site.run("systemctl start pneumofed-client")

    def site(self, name: str) -> SiteFolder:
        return SiteFolder(self[name].path / "site")

    def approve(self, name: str, plan: Plan) -> None:
        approvals = Approvals(self.site(name).plans)
        approvals.propose(plan.model_dump(mode="json"), plan.sha256)
        approvals.approve(plan.sha256)

    def _send(self, machine: Machine, script: str) -> None:
        """What a block names and somebody else made later than what lies here."""
        for file in (file for other in self.machines.values() for file in other.desk.iterdir()):
            here = machine.desk / file.name
            newer = not here.exists() or here.stat().st_mtime < file.stat().st_mtime
            if file.parent != machine.desk and file.name in script and newer:
                shutil.copy2(file, here)

    def follow(self, title: str, before_last: Callable[[], None] = lambda: None) -> list[str]:
        """Every block of a section, each at its place; what they print."""
        said = []
        for place, script in PROCEDURES[title]:
            machine = self[place]
            if (place, script) == PROCEDURES[title][-1]:
                before_last()
            self._send(machine, script)
            said.append(machine.run(script))
        return said

    def end(self) -> None:
        for machine in self.machines.values():
            machine.end()

    # What the coordinator sees, wherever the server is.

    def shows_the_new_certificate(self) -> None:
        """Wait for what `server check` says."""
        server = self["the server"]
        wait_for("it", lambda: "certificate of before" not in server.run("pneumofed server check"), 60)

    def write_plan(self, plan: Plan) -> Path:
        path = self.path / "plan.yaml"
        path.write_text(dump_yaml(plan))
        return path

    @property
    def server(self) -> ServerFolder:
        here = [m for m in self.machines.values() if (m.path / "server" / "control.sock").exists()]
        return ServerFolder((here or [self["the server"]])[-1].path / "server")

    def status(self) -> dict:
        try:
            return ask(self.server, "/status")
        except RunError:
            return {"running": None, "runs": {}, "connected": [], "sites": {}}

    def answers(self) -> bool:
        return bool(self.status()["runs"]) or "connected" in self.status()

    def connected(self, *names: str) -> None:
        wait_for(f"{names} to be connected", lambda: self.status()["connected"] == sorted(names), 100)

    def took_in_the_new_ca(self, name: str) -> None:
        """Wait until all agents have; this one's is started again for it."""
        self[name].run("systemctl restart pneumofed-client")
        wait_for("everybody to know it", lambda: not sites_behind(self.server), 60)

    def begin(self, plan: Plan | None = None, more: str = "") -> str:
        server = self["the server"]
        (server.desk / "plan.yaml").write_text(dump_yaml(plan or self.plan))
        return server.run(f"pneumofed server run plan.yaml {more}").split()[1]

    def stop(self) -> None:
        """As `server stop` does, without the second that a command takes to start: a round is as short."""
        ask(self.server, "/stop", {})

    def round(self, number: int) -> None:
        wait_for(f"round {number}", lambda: (now := self.status()["running"]) and now["round"] >= number, 100)

    def finished(self, run: str) -> dict:
        state = wait_for(
            f"the end of {run}",
            lambda: (s := self.status()["runs"].get(run)) and s["state"] not in ("running", "queued") and s,
            300,
        )
        assert state["state"] == "finished", state
        return json.loads((self.server.runs / run / "history.json").read_text())

    def weights(self, run: str) -> dict:
        from safetensors.numpy import load_file

        return load_file(self.server.runs / run / "model.safetensors")
