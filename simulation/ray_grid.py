"""A Flower Grid on Ray: the way past one machine. Needs the `ray` extra.

By itself it uses this machine; where the environment's RAY_ADDRESS names a cluster that runs already, all of
its machines. A worker has always the same sites, so that their cohorts and models stay warm. One that is
lost, with its machine or alone, leaves them to those that are left, and what it was at is begun anew there:
a round may be asked for again, as after a crash. A site whose second worker is lost too has failed in that
round: it may be the site that ends them.
"""

import hashlib
import json
import logging
import os
import secrets
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flwr.app import Error, Message

from client.site_config import NodeConfig
from client.worker import Sites, from_parts, to_parts
from common import wire
from common.errors import ConfigError, RunError
from common.files import write_atomically
from common.protocol import program
from common.text import printable
from simulation.grid import SimulationGrid
from simulation.scenario import Machine

CLUSTER = os.environ.get("RAY_ADDRESS", "")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else Ray warns about its future
if not CLUSTER:  # Ray asks nobody who he is, and listens to the whole network unless it is told that:
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
try:
    import ray
    from ray.exceptions import RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as OnMachine
except ImportError:
    raise ConfigError(
        "simulation.engine: ray is not installed; run with `uv run --extra ray`, or use pool"
    ) from None

log = logging.getLogger("pneumofed.simulation")

START_S, CONNECT_S = 300.0, 5.0
TOKEN = ".ray"  # noqa: S105  # no password
"""A file with a number that was drawn just now, beside the plan: who reads it there shares the folder."""


class Remote:
    """What runs in a worker, on whichever machine."""

    def __init__(self, app: str, node_configs: Mapping[int, NodeConfig], threads: int) -> None:
        from client.compute.device import set_up_process

        set_up_process(threads)
        self._sites = Sites(app, node_configs)

    def looked(self, files: Mapping[str, str]) -> tuple[str, str | None]:
        """The programs here, and the first of `files` (path: SHA-256) that is not here as it is there."""
        other = (path for path, digest in files.items() if sha256_of(path) != digest)
        return programs(), next(other, None)

    def answer(self, parts: Sequence[bytes]) -> list[bytes]:
        """A message's answer, both as `to_parts` makes them."""
        return to_parts(self._sites.answer(from_parts(iter(parts).__next__)))


@dataclass(eq=False)
class Worker:
    """One that runs, on the machine at `address`, and the messages that it has: the first is `at_work`."""

    actor: Any
    address: str
    held: dict[str, Message] = field(default_factory=dict)
    at_work: Any = None

    def give(self, message_id: str, message: Message) -> None:
        """Queue a message."""
        self.held[message_id] = message
        if self.at_work is None:
            self._go_on()

    def _go_on(self) -> None:
        message = next(iter(self.held.values()), None)
        self.at_work = None if message is None else self.actor.answer.remote(to_parts(message))

    def take(self) -> Message:
        """The answer that is there. Raises RayError if the worker is lost."""
        reply = from_parts(iter(ray.get(self.at_work)).__next__)
        self.held.pop(reply.metadata.reply_to_message_id)
        self._go_on()
        return reply


class RayGrid(SimulationGrid):
    """Runs sites in workers of Ray."""

    def __init__(self, app: str, node_configs: Sequence[NodeConfig], machine: Machine) -> None:
        """`app` names the ClientApp as Flower does, "client.app:app".

        Raises:
            ConfigError: no cluster answers at RAY_ADDRESS, it has no room for `machine.workers`, or a machine
            of it does not share the run's folder, or runs other programs.
            RunError: workers do not start in time.
        """
        super().__init__(node_configs)
        self._again: set[str] = set()  # messages whose first worker was lost
        self._failed: list[Message] = []
        _connect(machine)
        try:
            self._workers = _start(app, self.node_configs, machine)
            _require_alike(self._workers, list(self.node_configs.values()))
        except BaseException:
            self.close()
            raise

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        ids = []
        for message in messages:
            ids.append(self._number(message))
            self._give(ids[-1], message)
        return ids

    def _give(self, message_id: str, message: Message) -> None:
        if self._workers:
            number = message.metadata.dst_node_id - 1
            self._workers[number % len(self._workers)].give(message_id, message)
        else:
            self._fail(message, "no worker of Ray is left")

    def _fail(self, message: Message, reason: str) -> None:
        self._failed.append(Message(Error(wire.SITE_CRASHED, reason), reply_to=message))

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        ready, wanted = self._ready(0.0), set(message_ids)
        replies = []
        for worker in [worker for worker in self._workers if worker.at_work in ready]:
            try:
                replies.append(worker.take())
            except RayError as e:
                self._lose(worker, type(e).__name__)
        failed, self._failed = self._failed, []
        return [reply for reply in replies + failed if reply.metadata.reply_to_message_id in wanted]

    def _ready(self, seconds: float) -> set[Any]:
        at_work = [worker.at_work for worker in self._workers if worker.at_work is not None]
        n = 1 if seconds else len(at_work)
        return set(ray.wait(at_work, num_returns=n, timeout=seconds)[0]) if at_work else set()

    def _lose(self, worker: Worker, why: str) -> None:
        """Its sites go to those that are left."""
        ray.kill(worker.actor)  # one that is only out of sight must not go on beside its successor
        self._workers.remove(worker)
        held, left = dict(worker.held), len(self._workers)
        log.warning(
            "a worker of Ray at %s is lost (%s); its sites go on at the %d that are left",
            worker.address, printable(why, 60), left,
        )  # fmt: skip
        first = next(iter(held))
        if first in self._again:
            self._fail(held.pop(first), "two workers of Ray were lost while they were at it")
        self._again.add(first)
        for message_id, message in held.items():
            self._give(message_id, message)

    def wait(self, message_ids: Sequence[str], seconds: float) -> None:
        """Return when a worker has an answer, or when `seconds` are over."""
        self._ready(seconds)

    def close(self) -> None:
        """End the workers; a cluster that was there before stays."""
        ray.shutdown()


def _connect(machine: Machine) -> None:
    where = f"RAY_ADDRESS: {printable(CLUSTER)}" if CLUSTER else "simulation.engine ray"
    more: dict[str, Any] = {"address": CLUSTER} if CLUSTER else {
        "address": "local", "num_cpus": machine.n_threads * machine.n_workers, "include_dashboard": False,
    }  # fmt: skip
    try:
        if CLUSTER:  # Ray itself would try for a minute
            host, _, port = CLUSTER.rpartition(":")
            socket.create_connection((host, int(port)), CONNECT_S).close()
        ray.init(logging_level=logging.ERROR, log_to_driver=False, **more)
        # What Ray finds worth saying goes to standard output, whatever is asked of it: the result's place.
        ray._private.worker.print_to_stdstream = lambda *_, **__: None
    except (OSError, RuntimeError, ValueError) as e:
        why = printable(" ".join(str(e).split()), 300)
        raise ConfigError(f"{where}: no Ray cluster that can be used ({why}); expected HOST:PORT") from None


def _start(app: str, node_configs: Mapping[int, NodeConfig], machine: Machine) -> list[Worker]:
    places, gpus = _places(machine)
    workers = []
    for place, address in places[: len(node_configs)]:
        actor = ray.remote(Remote).options(
            num_cpus=machine.n_threads, num_gpus=gpus, scheduling_strategy=OnMachine(place, soft=False)
        )
        workers.append(Worker(actor.remote(app, dict(node_configs), machine.n_threads), address))
    return workers


def _places(machine: Machine) -> tuple[list[tuple[str, str]], float]:
    """(machine, address) of each worker, by turns on all machines of the cluster, and its share of a GPU."""
    here = [one for one in ray.nodes() if one["Alive"]]  # type: ignore[no-untyped-call]
    gpus = sum(one["Resources"].get("GPU", 0.0) for one in here) if machine.device != "cpu" else 0.0
    share = min(1.0, gpus / (machine.workers or gpus)) if gpus else 0.0

    def room(one: dict[str, Any]) -> int:
        cpus, own = (one["Resources"].get(kind, 0.0) for kind in ("CPU", "GPU"))
        return min(int(cpus // machine.n_threads), int(own / share + 1e-6) if share else 1024)

    turns = sorted((turn, number) for number, one in enumerate(here) for turn in range(room(one)))
    wanted = machine.workers or max(1, len(turns))
    if wanted > len(turns):
        raise ConfigError(
            f"simulation.workers: found {wanted} of {machine.n_threads} threads each, expected at most "
            f"{len(turns)}: that is what the {len(here)} machines of Ray's cluster have room for"
        )
    return [(here[i]["NodeID"], here[i]["NodeManagerAddress"]) for _, i in turns[:wanted]], share


def _require_alike(workers: Sequence[Worker], nodes: Sequence[NodeConfig]) -> None:
    """All machines see the run's plan and cohorts, in one folder, and run our programs."""
    plans = {str(node["plan"]) for node in nodes if "plan" in node}
    cohorts = {f"{f}/cohort.json" for node in nodes for f in json.loads(str(node.get("cohorts", "[]")))}
    tokens = [Path(plan).with_name(TOKEN) for plan in plans]
    try:
        for token in tokens:
            write_atomically(token, secrets.token_bytes(16))
        files = {path: sha256_of(path) for path in (*map(str, tokens), *plans, *cohorts)}
        looks = [worker.actor.looked.remote(files) for worker in workers]
        if late := ray.wait(looks, num_returns=len(looks), timeout=START_S)[1]:
            raise RunError(
                f"{len(late)} of {len(looks)} workers of Ray did not start in {START_S:g} s: is the cluster "
                "in use?"
            )
        for worker, look in zip(workers, looks, strict=True):
            _judge(worker.address, look)
    finally:
        for token in tokens:
            token.unlink(missing_ok=True)


def _judge(address: str, look: Any) -> None:
    where = f"simulation.engine ray: the machine at {printable(address)}"
    try:
        theirs, other = ray.get(look)
    except RayError as e:
        why = printable(str(e).strip().splitlines()[-1], 200)
        raise ConfigError(f"{where} starts no worker ({why}); is {programs()} installed there?") from None
    if theirs != programs():
        raise ConfigError(f"{where} has {printable(theirs)}, this one {programs()}; install the same there")
    if other is not None:
        raise ConfigError(
            f"{where} does not see {printable(other)} as it is here: all machines of the cluster must share "
            "the run's folder, at the same path"
        )


def programs() -> str:
    """On which a run's bits depend."""
    import torch

    return f"pneumofed {program()}, torch {torch.__version__}"


def sha256_of(path: str) -> str:
    """Of a file; empty where there is none that can be read."""
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError:
        return ""
