"""Federations under secure aggregation: identities that all confirmed, sites that go away, a server that lies."""

from flwr.app import Error, Message

from client.app import app
from client.governance.peers import Peers
from common import wire
from common.credentials import read_key
from common.secure.keys import fingerprint_of, identity_of
from simulation.grid import SequentialGrid
from simulation.identities import introduce
from tests.helpers.plans import small_plan


def secure_plan(threshold=2, **changes):
    return small_plan(aggregation={"secure": True, "threshold": threshold}, **changes)


def with_identities(nodes, folder):
    """Each node with a key, and with all others confirmed, as in a simulation."""
    known = introduce(folder, [node["site"] for node in nodes])
    return [
        {
            **node,
            "identity": str(known[node["site"]].key),
            "peers": str(known[node["site"]].peers),
            "memory": str(folder / "memory" / node["site"]),
        }
        for node in nodes
    ]


class Between(SequentialGrid):
    """The network: keeps what passes, loses what it is told to, changes what a liar would.

    Args:
        lost: (message type, round, node): gets no answer but an error.
        before, after: change a request, or a reply, in place.
    """

    def __init__(self, nodes, lost=(), before=lambda m: None, after=lambda request, reply: None):
        super().__init__(app, nodes)
        self.lost, self.before, self.after = set(lost), before, after
        self.passed = []  # (type, bytes of the reply's arrays)

    def push_messages(self, messages):
        messages = list(messages)
        for message in messages:
            self.before(message)
        return super().push_messages(messages)

    def pull_messages(self, message_ids):
        if not self._queue:
            return []
        request = self._queue[0][1]
        kind, node = request.metadata.message_type, request.metadata.dst_node_id
        if kind != "query" and (kind, wire.get_round(request.content), node) in self.lost:
            self._queue.popleft()
            return [Message(Error(wire.SITE_CRASHED, "away"), reply_to=request)]
        replies = super().pull_messages(message_ids)
        for reply in replies:
            self.after(request, reply)
            self.passed.append((request.metadata.message_type, arrays_of(reply)))
        return replies


def arrays_of(reply):
    """The bytes of a reply's arrays: the server lets go of them."""
    if not reply.has_content() or wire.ARRAYS not in reply.content:
        return []
    return [bytes(array.data) for array in wire.get_arrays(reply.content).values()]


def introduce_all(deployment, *names):
    """The hospitals of a deployment confirm each other, as `client peers confirm` does."""
    shown = {n: fingerprint_of(identity_of(read_key(deployment.site(n).identity))) for n in names}
    for name in names:
        others = {peer: print_ for peer, print_ in shown.items() if peer != name}
        Peers(deployment.site(name).peers).confirm_all(others)
