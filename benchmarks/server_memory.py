"""The server's memory while replies arrive, and how fast it takes them in.

    uv run python benchmarks/server_memory.py --json   ->  {"models_at_peak": 4.1, "speed_ratio": 0.2, …}

Replies of one size come into the server's parcels as they do over the network (announced, in pieces, each
piece's hash checked), are opened, checked and added to the mean; no HTTP and no TLS. `models_at_peak` is the
peak of this process above what it held before the first reply, in sizes of one float32 model, the global
model not counted. `speed_ratio` is the time in which a reply's bytes can be read from memory and added once,
over the time that the server took for a reply.
"""

import argparse
import gc
import json
import statistics
import time
from pathlib import Path

import numpy as np
from flwr.app import Message, MetricRecord, RecordDict
from flwr.proto.fleet_pb2 import PushMessagesRequest
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.proto.message_pb2 import Metadata, PushObjectRequest
from flwr.proto.node_pb2 import Node
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.task_identity import TaskIdentity

from common import wire
from common.plan import Plan
from server.parcels import Parcels
from server.replies import Replies
from server.weighing import Scale

RUN, NODE = 1, 7


def memory_mb(what: str) -> float:
    """Of this process: VmRSS now, VmHWM at its peak."""
    line = next(row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith(what))
    return int(line.split()[1]) / 1024


def reset_peak() -> None:
    """VmHWM becomes what is held now."""
    Path("/proc/self/clear_refs").write_text("5")


def shapes_of(parameters: int) -> dict[str, tuple[int, ...]]:
    """Tensors as in a network of ten layers."""
    width = round((parameters / 10) ** 0.5)
    return {f"layer{k}": (width, width) for k in range(10)}


class Sender:
    """One site's reply, ready to be sent again and again."""

    def __init__(self, shapes: dict[str, tuple[int, ...]]) -> None:
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = RUN, 1, 1
        rng = np.random.default_rng(0)
        update = {k: rng.standard_normal(s, np.float32) * np.float32(1e-4) for k, s in shapes.items()}
        request = Message(RecordDict(), NODE, "train")
        request.metadata.__dict__["_message_id"] = self.request = "0" * 64
        numbers = MetricRecord({wire.N_EXAMPLES: 100, wire.LOSS: 0.5, wire.STEPS: 1, wire.SECONDS: 0.0})
        reply = Message(RecordDict({wire.ARRAYS: wire.pack(update), wire.METRICS: numbers}), reply_to=request)
        self.tree = get_object_tree(reply)
        self.pieces = {key: one.deflate() for key, one in get_all_nested_objects(reply).items()}

    def send(self, parcels: Parcels) -> None:
        """Announce it and push its pieces."""
        node = Node(node_id=NODE)
        head = Metadata(run_id=RUN, message_id=self.tree.object_id, reply_to_message_id=self.request)
        answer = parcels.announce(
            PushMessagesRequest(
                node=node, messages_list=[ProtoMessage(metadata=head)], message_object_trees=[self.tree]
            )
        )
        for key in answer.objects_to_push:
            push = PushObjectRequest(
                node=node, session_id=self.request, object_id=key, object_content=self.pieces[key]
            )
            if not parcels.put(push):
                raise SystemExit("a piece was not taken")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--parameters", type=int, default=25_000_000)
    parser.add_argument("--replies", type=int, default=1000)
    args = parser.parse_args()
    shapes = shapes_of(args.parameters)
    sender, schema = Sender(shapes), wire.Schema(shapes)
    size_mb = schema.n_bytes / 2**20
    weights = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    source, total = (np.ones(schema.n_bytes // 4, np.float32) for _ in range(2))
    floor: list[float] = []
    spent: list[float] = []
    parcels = Parcels()
    gc.collect()
    before = memory_mb("VmRSS")
    reset_peak()
    scale = Scale(Plan(name="memory"), {f"s{k}": 100.0 for k in range(args.replies)})
    replies = Replies(Plan(name="memory"), schema, weights, args.replies, scale)
    for k in range(args.replies):
        started = time.perf_counter()
        np.add(total, source, out=total)
        floor.append(time.perf_counter() - started)
        started = time.perf_counter()
        parcels.expect(sender.request, NODE, RUN, schema.packed_bytes)
        sender.send(parcels)
        parcel = parcels.take([sender.request])
        if parcel is None:
            raise SystemExit("the reply did not arrive")
        replies.accept(f"s{k}", parcel.open())
        spent.append(time.perf_counter() - started)
    peak = memory_mb("VmHWM") - before
    result = {
        "models_at_peak": peak / size_mb, "peak_mb": peak, "model_mb": size_mb, "replies": args.replies,
        "speed_ratio": statistics.median(floor) / statistics.median(spent),
        "reply_s": statistics.median(spent), "floor_s": statistics.median(floor),
    }  # fmt: skip
    print(json.dumps(result) if args.json else "\n".join(f"{k}: {v:.3g}" for k, v in result.items()))


if __name__ == "__main__":
    main()
