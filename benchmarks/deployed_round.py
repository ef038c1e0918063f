"""Overhead of a deployed round: three agents and the server as processes on loopback, mutual TLS, training
excluded.

`python benchmarks/deployed_round.py --json` -> {"overhead_s", "idle_cpu", "megabytes", ...}: the median
seconds of a round in which every site answers at once with an update that changes every round; and the share
of a core that an idle agent takes. With `--secure`, under secure aggregation. The agents run with the
ClientApp of this file instead of client/app.py; everything else is what a deployment runs.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import echo
from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from client.governance.peers import Peers
from client.secure import Party, SecureRounds
from common import wire
from common.credentials import read_key
from common.plan import Aggregation, Evaluation, Model, Plan
from common.secure import messages as secure
from common.secure.keys import Moment
from common.secure.ring import FULL, to_ring

if TYPE_CHECKING:
    from tests.helpers.deployment import Deployment

sys.path.append(str(Path(__file__).resolve().parent.parent))  # for tests.helpers, which starts the processes

app = ClientApp()
sent: dict[str, wire.Weights] = {}
"""Site -> its last update, of the sites of this process."""


@app.query()
def query(message: Message, context: Context) -> Message:
    """A site of 100 patients."""
    about = ConfigRecord({wire.SITE: str(context.node_config["site"]), wire.DEVICE: "echo"})
    counts = MetricRecord({wire.N_EXAMPLES: 100, **dict.fromkeys(wire.query_numbers(("pneumonia",)), 100)})
    return Message(RecordDict({wire.CONFIG: about, wire.METRICS: counts}), reply_to=message)


@app.train()
def train(message: Message, context: Context) -> Message:
    """An update of random numbers, new in every round, as training would give."""
    from safetensors.numpy import load

    echo.arrived()
    site = str(context.node_config["site"])
    weights = load(wire.get_arrays(message.content)[wire.PACKED].data)
    update = echo.update({k: w.shape for k, w in weights.items()}, site, wire.get_round(message.content))
    sent[site] = update
    numbers = MetricRecord({wire.N_EXAMPLES: 100, wire.LOSS: 0.5, wire.STEPS: 1, wire.SECONDS: 0.0})
    arrays = wire.pack(update)
    if secure.SEALED in message.content.config_records[wire.CONFIG]:
        sealed = secure.take(message.content, secure.SEALED, secure.Sealed)
        begun = _rounds.current(site, moment_of(message))
        begun.open(sealed, "", wire.get_answered(message.content))
        vector = to_ring(update, begun.roster.weights[site], 100.0)
        arrays = secure.pack_masked(begun.mask(vector, weights, FULL), FULL)
    return Message(RecordDict({wire.ARRAYS: arrays, wire.METRICS: numbers}), reply_to=message)


def moment_of(message: Message) -> Moment:
    """Which round a request is about."""
    plan, run = (wire.get_text(message.content, key) for key in (wire.PLAN_SHA256, wire.RUN))
    return Moment(plan, run, wire.get_round(message.content))


@app.train("keys")
def show_keys(message: Message, context: Context) -> Message:
    """As client/app.py does; the threshold is most of the peers and this site."""
    node = context.node_config
    peers, key = Peers(Path(str(node["peers"]))), read_key(Path(str(node["identity"])))
    threshold = (len(peers.confirmed()) + 1) // 2 + 1
    party = Party(key, str(node["site"]), threshold, peers, Path(str(node["memory"])))
    content = RecordDict({wire.METRICS: MetricRecord({wire.N_EXAMPLES: 100})})
    secure.put(content, secure.ADVERT, _rounds.begin(party, moment_of(message)).advert)
    return Message(content, reply_to=message)


def stage(action: str, key: str, kind: type, answered: str, method: str, *more: object) -> None:
    """Another stage of secure aggregation."""

    @app.train(action)
    def handle(message: Message, context: Context) -> Message:
        begun = _rounds.current(str(context.node_config["site"]), moment_of(message))
        content = RecordDict()
        told = getattr(begun, method)(secure.take(message.content, key, kind), *more)
        secure.put(content, answered, told)
        return Message(content, reply_to=message)


_rounds = SecureRounds()
stage("shares", secure.ROSTER, secure.Roster, secure.SEALED, "share", 100)
stage("agree", secure.SURVIVORS, secure.Survivors, secure.SIGNATURE, "agree")
stage("unmask", secure.SIGNATURES, secure.Signatures, secure.REVEALED, "reveal")


def plan_of(parameters: int, rounds: int, aggregation: Aggregation) -> Plan:
    """A plan whose model has about `parameters` parameters (the LSTM's hidden size is chosen for it)."""
    from common.models import build_model

    for hidden in range(16, 4097, 16):
        model = Model(hidden=hidden, embedding=64)
        plan = Plan(
            name="echo", rounds=rounds, model=model, evaluation=Evaluation(every=0), aggregation=aggregation
        )
        if 4 * hidden * (64 + hidden) > 0.4 * parameters:  # the LSTM alone, before the model is built
            n = sum(p.numel() for p in build_model(plan).parameters())
            if n >= parameters:
                return plan
    raise SystemExit(f"no plan has {parameters} parameters")


def cpu_seconds(pid: int) -> float:
    """User and system time of one process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(pid: int) -> float:
    """Largest resident size of one process."""
    line = next(
        line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")
    )
    return int(line.split()[1]) / 1024


def agent(folder: Path) -> None:
    """An agent as `pneumofed client up` runs it, with the ClientApp of this file."""
    from client import agent as module

    module.APP = "deployed_round:app"
    original = module.Agent.__init__
    module.Agent.__init__ = lambda self, f, link, monitoring: original(self, f, link, monitoring, module.APP)
    module.serve(folder)


def deploy(path: Path, plan: Plan, names: list[str]) -> "Deployment":
    """The folders of a server and of sites that approved the plan and have no patients."""
    from tests.helpers.deployment import Deployment

    d = Deployment(path, plan)
    d.make_server()
    for name in names:
        d.make_site(name, n_patients=0)
    d.approve(*names)
    return d


def commands(d: "Deployment", names: list[str]) -> dict[str, list[str]]:
    """What starts the server and each site, from nothing: a test's processes would hold torch."""
    server = [sys.executable, "-m", "pneumofed.cli", "server", "up", "--dir", str(d.server.path)]
    agents = {name: [sys.executable, __file__, "--agent", str(d.path / name)] for name in names}
    return {"server": server, **agents}


def main() -> None:
    """Set up, run, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--parameters", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--sites", type=int, default=3)
    parser.add_argument("--idle-s", type=float, default=30.0)
    parser.add_argument("--secure", action="store_true")
    parser.add_argument("--agent", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.agent:
        agent(args.agent)
        return
    from tests.helpers.deployment import wait_for
    from tests.helpers.secure import introduce_all

    aggregation = Aggregation(secure=True, threshold=args.sites // 2 + 1) if args.secure else Aggregation()
    plan = plan_of(args.parameters, args.rounds, aggregation)
    path = Path(tempfile.mkdtemp(prefix="pf-"))
    names = [f"site-{i}" for i in range(1, args.sites + 1)]
    d = deploy(path, plan, names)
    try:
        introduce_all(d, *names)
        for name, words in commands(d, names).items():
            log = (path / f"{name}.out").open("ab")
            d.processes[name] = subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True)
        wait_for("the agents", lambda: len(d.status()["connected"]) == args.sites)
        time.sleep(5)  # for what they do when they start
        before, started = [cpu_seconds(d.processes[n].pid) for n in names], time.perf_counter()
        time.sleep(args.idle_s)
        spent = time.perf_counter() - started
        idle = [(cpu_seconds(d.processes[n].pid) - b) / spent for n, b in zip(names, before, strict=True)]
        history = d.wait_finished(d.run(), timeout=900)
        seconds = [report["seconds"] for report in history[2:]]
        result = {
            "overhead_s": statistics.median(seconds), "worst_s": max(seconds), "rounds": len(seconds),
            "idle_cpu": max(idle),
            "megabytes": history[0]["bytes_up"] / args.sites / 1e6, "sites": args.sites,
            "agent_mb": max(memory_mb(d.processes[n].pid) for n in names),
            "server_mb": memory_mb(d.processes["server"].pid),
        }  # fmt: skip
    finally:
        for name in list(d.processes):
            d.kill(name)
        shutil.rmtree(path, ignore_errors=True)
    print(json.dumps(result) if args.json else "\n".join(f"{k}: {v:.3f}" for k, v in result.items()))


if __name__ == "__main__":
    main()
