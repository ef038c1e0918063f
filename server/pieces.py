"""An object of the server's store as the answer to `pull-object`: sent from where it lies, a piece at a time,
as fast as the site takes it.

A model goes to all sites at once. An answer that is made whole, and encrypted whole, needs its memory three
times for each of them.
"""

from flwr.common.constant import Status
from flwr.proto.message_pb2 import PullObjectRequest, PullObjectResponse
from flwr.server.superlink.linkstate import LinkState
from flwr.server.superlink.utils import check_abort
from flwr.supercore.error import ApiErrorCode, FlowerError
from flwr.supercore.protobuf.constants import PROTOBUF_MEDIA_TYPE
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

PIECE = 256 * 2**10
"""Bytes that wait for the network at once."""
_CONTENT = bytes([PullObjectResponse.OBJECT_CONTENT_FIELD_NUMBER << 3 | 2])
"""Before the length of `object_content`: its number, and that a length follows (protobuf's wire format)."""


class Pieces(Response):
    """`head` and `content` one after the other, as the body."""

    def __init__(self, head: bytes, content: bytes) -> None:
        super().__init__(media_type=PROTOBUF_MEDIA_TYPE)
        self._parts = (head, content)
        self.headers["content-length"] = str(len(head) + len(content))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        left = int(self.headers["content-length"])
        for part in self._parts:
            view = memoryview(part)
            for start in range(0, max(1, len(part)), PIECE):
                piece = bytes(view[start : start + PIECE])
                left -= len(piece)
                # The last says so itself: a site that has all bytes may ask for the next thing at once.
                await send({"type": "http.response.body", "body": piece, "more_body": left > 0})
                if left == 0:
                    return


def pull_object(request: PullObjectRequest, state: LinkState) -> Response:
    """As Flower's own handler answers, to the last byte.

    Raises:
        FlowerError: the run is over, or has not begun.
    """
    if why := check_abort(request.run_id, [Status.PENDING, Status.STARTING, Status.FINISHED], state):
        raise FlowerError(ApiErrorCode.FLEET_RUN_STATUS_NOT_ALLOWED, why)
    content = state.get_object(request.run_id, request.object_id)
    said = PullObjectResponse(object_found=content is not None, object_available=bool(content))
    head = said.SerializeToString()
    return Pieces(head + _CONTENT + _varint(len(content)), content) if content else Pieces(head, b"")


def _varint(n: int) -> bytes:
    """Seven bits a byte, the lowest first; the eighth says that there are more."""
    low = [n >> shift & 0x7F for shift in range(0, max(1, n.bit_length()), 7)]
    return bytes([*(byte | 0x80 for byte in low[:-1]), low[-1]])
