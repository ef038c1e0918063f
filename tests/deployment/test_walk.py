"""Every command of the documents for hospital and coordinator, typed as it stands there, by people who know nothing else:
two hospitals, their DICOM, a run, what it gained. A command that nobody here types is a failure."""

import re
import socket
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from common.config import dump_yaml
from common.plan import Evaluation, Federation, Split
from tests.helpers.deployment import free_port, wait_for
from tests.helpers.machines import ROOT, Machine, commands
from tests.helpers.plans import small_plan

pytestmark = pytest.mark.slow
DOCUMENTS = ("coordinator.md", "hospital.md", "predictions.md")
PLAN = small_plan(
    name="trial", rounds=3, federation=Federation(quorum=1.0, deadline_s=120.0),
    evaluation=Evaluation(final=True, alone=True), split=Split(test=0.5),  # ten test patients of a class
)  # fmt: skip
ELSEWHERE = {
    # what needs a PACS is typed with Orthanc
    "pneumofed client pull plan.yaml": "tests/client/pacs/test_orthanc.py",
    "pneumofed client receive": "tests/client/pacs/test_orthanc.py",
    "pneumofed client read --model model": "tests/client/prediction/test_on_call.py",
    "pneumofed client read --model model --accession A1234": "tests/client/prediction/test_on_call.py",
    # what changes keys, people and plans
    "pneumofed client rekey": "docs/procedures.md",  # all of whose blocks run
    "pneumofed server run plan.yaml --pretrained model": "tests/deployment/test_journeys.py",
    "pneumofed server export runs/quickstart": "tests/test_gallery.py",
}
NAMES_ONLY = {"pneumofed client gain", "pneumofed client join"}
"""Named in a sentence; typed with what they need."""
SYNOPSIS = re.compile(r"\b(MODEL|INPUT|DIR|RUN|PLAN|FILE)\b")
"""A command with such words stands for those that are typed with names in their place."""


@dataclass
class Typist:
    """Types commands at a machine, in the folder where the document has its reader sit, with this test's names."""

    machine: Machine
    folder: str
    known: list[str]
    names: dict[str, str] = field(default_factory=dict)
    typed: set[str] = field(default_factory=set)

    def __call__(self, start: str, *, more: str = "") -> str:
        """The one command that begins so; `more` is what the document says to add, where it does."""
        (line,) = [c for c in self.known if c == start] or [c for c in self.known if c.startswith(start)]
        self.typed.add(line)
        for old, new in self.names.items():
            line = line.replace(old, new)
        return self.machine.run(
            f"unset PNEUMOFED_CLIENT_DIR PNEUMOFED_SERVER_DIR\ncd {self.folder}\n{line}{more}"
        )


@pytest.fixture
def place(tmp_path):
    made: list[Machine] = []
    path = Path("/tmp") / f"pw-{free_port()}"
    path.mkdir(mode=0o700)

    def machine(name: str, port: int) -> Machine:
        words = {"fed.example.org:443": f"localhost:{port}", "fed.example.org": "localhost"}
        made.append(Machine(path / name, words))
        return made[-1]

    yield machine
    for one in made:
        one.end()


def hospital_yaml(machine: Machine, images: Path, port: int) -> str:
    """The document's example, with this hospital's folder, at any hour, and with its final scores."""
    (example,) = re.findall(r"```yaml\n(server: .*?)```", (ROOT / "docs/hospital.md").read_text(), re.DOTALL)
    settings = yaml.safe_load(example)
    assert settings["data"] == {"dicom": "/pacs/export"}
    del settings["policy"]["hours"]
    settings |= {"server": f"localhost:{port}", "device": "cpu", "data": {"dicom": str(images)}, "threads": 1}
    settings["policy"]["final"] = True
    return yaml.safe_dump(settings)


class Syslog:
    """A SIEM's ear, on loopback."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(10)
        self.port = self._socket.getsockname()[1]

    def line(self) -> str:
        return self._socket.recv(65536).decode()


def test_every_command_of_the_documents_works_as_it_stands(place, tmp_path):
    known = list(dict.fromkeys(c for name in DOCUMENTS for c in commands(ROOT / "docs" / name)))
    port, names, siem = free_port(), ("st-mary", "st-john"), Syslog()
    # The coordinator.
    server = place("server", port)
    here = {"plan.yaml": str(server.desk / "plan.yaml"), "request.pem": str(server.desk / "request.pem"),
            "NAME": "trial", "ca.crt": "ca.crt", "siem.example.org -P 514": f"127.0.0.1 -P {siem.port}"}  # fmt: skip
    coordinator = Typist(server, "/var/lib/pneumofed/server", known, here)
    server.run("mkdir -p /var/lib/pneumofed/server")
    coordinator("pneumofed server init", more=f" --port {port}")
    server.run("sed -i 's/^listen: .*/listen: 127.0.0.1/' /var/lib/pneumofed/server/server.yaml")
    assert "is free" in coordinator("pneumofed server check")
    server.run("systemctl start pneumofed-server")
    coordinator.typed.add("pneumofed server up")  # by its service
    # Two hospitals.
    server.run(f"pneumofed phantom --out {tmp_path}/hospitals --sites 2 --patients 60")
    hospitals = {}
    for name, images in zip(names, sorted((tmp_path / "hospitals").iterdir()), strict=True):
        hospitals[name] = at = join(place(name, port), name, images, server, coordinator, port)
        at.names["3f2a9c"] = PLAN.sha256[:6]
        at.machine.run("systemctl start pneumofed-client")
        at.typed.add("pneumofed client up")
        assert " fails " not in at("pneumofed client check")
    # A run.
    (server.desk / "plan.yaml").write_text(dump_yaml(PLAN))
    assert "Run trial is started" in coordinator("pneumofed server run plan.yaml")
    for at in hospitals.values():
        wait_for("the plan", lambda at=at: PLAN.sha256[:6] in at("pneumofed client pending"))
        assert "Approved" in at("pneumofed client approve")
        assert "sequences" in at("pneumofed client ingest")
    wait_for("the survey", lambda: server_says(coordinator, "pneumofed server survey"), 90)
    assert "trial is stopped" in coordinator("pneumofed server stop")
    assert "trial goes on" in coordinator("pneumofed server resume")
    wait_for("the end", lambda: "trial: finished" in coordinator("pneumofed server runs"), 120)
    coordinator("pneumofed server status")
    assert "st-mary" in coordinator("pneumofed server report")
    assert "Signed" in coordinator("pneumofed server export NAME")
    assert "TRIPOD+AI" in coordinator("pneumofed server dossier")
    server.run("cp -r /var/lib/pneumofed/server/model /var/lib/pneumofed/server/ca.crt .")
    # What the hospitals have of it.
    at = hospitals["st-mary"]
    at.machine.run(f"cp -r {server.desk}/model {server.desk}/ca.crt /var/lib/pneumofed/site/")
    server.run("cp -r model ca.crt /var/lib/pneumofed/server/")
    for typist in (at, coordinator):
        assert "signed" in typist("pneumofed client verify").lower()
    for command in ("client predict --model model", "evaluate model", "client gain model", "client explain"):
        at(f"pneumofed {command}")
    assert "the chain is whole" in at("pneumofed client audit verify")
    assert at("pneumofed client audit --last").count("\n") > 5
    at("pneumofed client ledger")
    assert "Removed 1 sequence" in at("pneumofed client forget")
    # Day two of the coordinator.
    assert "runs" in coordinator("pneumofed server audit")
    assert "the chain is whole" in coordinator("pneumofed server audit verify")
    coordinator("pneumofed server audit --format")
    assert "pneumofed" in siem.line()
    server.run(f"pneumofed server run {server.desk}/plan.yaml")
    coordinator.names["NAME"] = "trial-2"
    assert "cancelled" in coordinator("pneumofed server cancel")
    assert "is revoked" in coordinator("pneumofed server revoke")
    assert "revoked" in coordinator("pneumofed server sites")
    # Nothing was left out.
    typed = coordinator.typed.union(NAMES_ONLY, ELSEWHERE, *(at.typed for at in hospitals.values()))
    for command, where in ELSEWHERE.items():
        assert command in known
        assert command.split()[2] in (ROOT / where).read_text(encoding="utf-8")
    assert not [c for c in known if c not in typed and not SYNOPSIS.search(c)]


def join(site: Machine, name: str, images: Path, server: Machine, coordinator: Typist, port: int) -> Typist:
    """As the documents say: request, admission, certificate, settings."""
    patient = (images / "labels.csv").read_text().splitlines()[1].split(",")[0]
    there = {
        "/pacs/export": str(images),
        "10017": patient,
        "st-mary": name,
        " --store": "",
        "--ca ca.crt": f"--ca {server.desk}/ca.crt",
    }
    at = Typist(site, "/var/lib/pneumofed/site", coordinator.known, there)
    server.run("cp /var/lib/pneumofed/server/ca.crt .")
    site.run("mkdir -p /var/lib/pneumofed/site")
    at("pneumofed client init")
    site.run("cp /var/lib/pneumofed/site/request.pem .")
    site.bring(server, "request.pem")
    coordinator.names["st-mary"] = name
    coordinator("pneumofed server admit")
    del coordinator.names["st-mary"]
    server.run(f"cp /var/lib/pneumofed/server/certificates/{name}.crt .")
    (site.path / "site" / f"{name}.crt").write_bytes((server.desk / f"{name}.crt").read_bytes())
    at("pneumofed client join st-mary.crt")
    (site.path / "site" / "hospital.yaml").write_text(hospital_yaml(site, images, port))
    return at


def server_says(coordinator: Typist, start: str) -> str:
    """Nothing, while it refuses."""
    try:
        return coordinator(start)
    except AssertionError:
        return ""
