"""A request on its way to a site: offered until the site says that it has come.

Flower offers a message once, whatever becomes of the answer that it was in, and takes a site's word about any
object of its store. Uses Flower's internals (the in-memory link state).
"""

from typing import cast

from flwr.proto.fleet_pb2 import PullMessagesRequest, PullMessagesResponse
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest, ConfirmMessageReceivedResponse
from flwr.server.superlink.linkstate import InMemoryLinkState, LinkState
from flwr.superlink.servicer.fleet import fleet_handlers


def pull_messages(request: PullMessagesRequest, state: LinkState) -> PullMessagesResponse:
    """The next message for the site. It asks when it has the last one: what was offered and did not come, as
    over a connection that broke, is offered again.

    Raises:
        FlowerError: as Flower's own.
    """
    store, offers = state.object_store, cast(InMemoryLinkState, state)
    with offers.lock:
        for message_id, message in offers.message_ins_store.items():
            about = message.metadata
            if about.dst_node_id == request.node.node_id and about.delivered_at and message_id in store:
                about.delivered_at = ""
    return fleet_handlers.pull_messages(request, state, store)


def confirm(request: ConfirmMessageReceivedRequest, state: LinkState) -> ConfirmMessageReceivedResponse:
    """The message has come, and is let go: if it is the site's own, and was whole.

    Raises:
        FlowerError: as Flower's own.
    """
    store, message_id = state.object_store, request.message_object_id
    message = cast(InMemoryLinkState, state).message_ins_store.get(message_id)
    if message is None or message.metadata.dst_node_id != request.node.node_id or not store.get(message_id):
        return ConfirmMessageReceivedResponse()
    return fleet_handlers.confirm_message_received(request, state, store)
