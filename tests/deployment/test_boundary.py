"""A hostile server against a real agent: nothing of its code runs, and nothing but what was approved is
done."""

import zipfile
from pathlib import Path

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.proto.fab_pb2 import GetFabRequest
from flwr.proto.fleet_pb2 import RegisterNodeFleetRequest, UnregisterNodeFleetRequest
from flwr.proto.run_pb2 import GetRunRequest
from flwr.superlink.servicer.fleet import fleet_handlers

from common import wire
from common.models import build_model
from server.calls import CALLS, _call
from server.door import MAX_BODY_BYTES
from server.fleet import FleetService
from server.grid import FleetGrid
from tests.helpers.deployment import Deployment, wait_for
from tests.helpers.plans import deployed_plan

pytestmark = pytest.mark.slow


class HostileServer:
    """Flower's whole Fleet service, bundles included, for a run whose bundle holds code under the project's
    own names."""

    def __init__(self, d: Deployment, bundle: bytes) -> None:
        more = {
            "get-run": _call(GetRunRequest, lambda r, f: fleet_handlers.get_run(r, f.state)),
            "get-fab": _call(GetFabRequest, lambda r, f: fleet_handlers.get_fab(r, f.state)),
            "register-node": _call(
                RegisterNodeFleetRequest, lambda r, f: fleet_handlers.register_node(r, f.state, True)
            ),
            "unregister-node": _call(
                UnregisterNodeFleetRequest, lambda r, f: fleet_handlers.unregister_node(r, f.state, True)
            ),
        }
        self._opened = pytest.MonkeyPatch()
        for name, call in more.items():
            self._opened.setitem(CALLS, name, call)
            self._opened.setitem(MAX_BODY_BYTES, f"/v1/fleet/{name}", call.most_bytes)
        self.service = FleetService(d.server, d.server.settings())
        self.service.start()
        self.grid = FleetGrid(self.service.state, self.service.parcels, self.service.bells)
        from flwr.supercore.fab import Fab

        fab_hash = self.service.state.store_fab(Fab(hash_of(bundle), bundle, {}))
        record = self.service.state.run_ids[self.grid.run.run_id].run
        record.fab_hash, record.fab_id, record.fab_version = fab_hash, "pneumofed/pneumofed", "1.0.0"

    def ask(self, kind, **config):
        plan = config.pop("_plan")
        values = {
            wire.PLAN_SHA256: plan.sha256,
            wire.RUN: "r1",
            **({} if kind == "query" else {wire.ROUND: 1}),
            **config,
        }
        records = {wire.CONFIG: ConfigRecord(values)}
        if kind != "query":
            records[wire.ARRAYS] = wire.pack(wire.get_weights(build_model(plan)))
        (node,) = wait_for("the site", lambda: list(self.grid.get_node_ids()))
        message = Message(RecordDict(records), node, kind, ttl=60.0)
        ids = self.grid.push_messages([message])
        (reply,) = wait_for("the answer", lambda: self.grid.pull_messages(ids), 60)
        return reply


def hash_of(data):
    import hashlib

    return hashlib.sha256(data).hexdigest()


def bundle_that_leaves(mark: Path) -> bytes:
    """A Flower bundle whose every module writes `mark` when it is imported."""
    evil = f"open({str(mark)!r}, 'w').write('ran')\n"
    file = mark.parent / "bundle.zip"
    with zipfile.ZipFile(file, "w") as bundle:
        for name in (
            "client/__init__.py",
            "client/app.py",
            "common/__init__.py",
            "common/wire.py",
            "sitecustomize.py",
        ):
            bundle.writestr(name, evil)
        bundle.writestr(
            "pyproject.toml",
            '[project]\nname="pneumofed"\nversion="1.0.0"\n[tool.flwr.app]\npublisher="x"\n'
            '[tool.flwr.app.components]\nclientapp="client.app:app"\nserverapp="client.app:app"\n',
        )
    return file.read_bytes()


def test_code_in_a_bundle_never_runs_and_only_approved_work_is_done(deployment, tmp_path):
    plan = deployed_plan(rounds=1)
    d = deployment(1, plan)
    mark = tmp_path / "mark"
    server = HostileServer(d, bundle_that_leaves(mark))
    try:
        d.start("site-1")
        trained = server.ask("train", _plan=plan)
        assert wire.Schema.of(build_model(plan)).unpack(wire.get_arrays(trained.content))
        assert not mark.exists()
        assert "fab" not in d.log("site-1").lower()
        other = deployed_plan(rounds=1, seed=77)
        for reply, said in (
            (server.ask("train", _plan=other), "never shown"),
            (server.ask("train", _plan=plan, **{wire.ROUND: 2}), "the plan has 1"),
            (server.ask("train", _plan=plan, **{wire.RUN: "r2"}), "approve it again"),
            (
                server.ask("query.patients", _plan=plan),
                "answers evaluate, evaluate.final, evaluate.other, evaluate.own",
            ),
        ):
            assert reply.has_error()
            assert said in reply.error.reason
        # A metric that the plan does not have cannot be asked for: the answer has the agreed numbers,
        # whatever the question.
        asked = server.ask("query", _plan=plan, **{"metrics": "age,sex,name"})
        assert set(asked.content.metric_records[wire.METRICS]) == {
            *wire.query_numbers(plan.findings),
            wire.N_EXAMPLES,
        }
        d.set("site-1", policy={"paused": True})
        assert "paused" in server.ask("train", _plan=plan).error.reason
        events = [e["event"] for e in d.audit("site-1")]
        assert events.count("received") == 7
        assert events.count("refused") == 5
        assert events.count("sent") == 2
    finally:
        server.grid.close()
        server.service.stop()
        server._opened.undo()
