"""A site's connection: Flower's Fleet protocol over mutual TLS, through the hospital's proxy if it has one.

Only what is needed: activate, heartbeat, pull, push, deactivate. Bundles are never asked for. Uses Flower's
internals (Fleet client, inflatable objects, node authentication): held to one version by pyproject.toml and
by tests/server/test_fleet.py.
"""

import functools
import json
import logging
import secrets
import ssl
import threading
import time
from base64 import b64encode
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar, cast

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Message
from flwr.app.message import remove_content_from_message
from flwr.app.message.arraychunk import ArrayChunk
from flwr.common.constant import HEARTBEAT_DEFAULT_INTERVAL, TIMESTAMP_HEADER
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    DeactivateNodeRequest,
    PullMessagesRequest,
    PullMessagesResponse,
    PushMessagesRequest,
    PushMessagesResponse,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest
from flwr.proto.node_pb2 import Node
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER, FLEET_HTTP_SIGNATURE_HEADER
from flwr.supercore.date import now
from flwr.supercore.inflatable.inflatable_object import InflatableObject, no_object_id_recompute
from flwr.supercore.inflatable.inflatable_protobuf_utils import (
    make_pull_object_fn_protobuf,
    make_push_object_fn_protobuf,
)
from flwr.supercore.inflatable.inflatable_utils import (
    ObjectPullError,
    ObjectPushError,
    pull_objects,
    push_objects,
)
from flwr.supercore.interceptors.http.runtime_version import RuntimeVersionHttpInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes, sign_message
from flwr.supercore.protobuf.constants import PROTOBUF_MEDIA_TYPE
from flwr.supernode.fleet_http_client import FleetHttpClient

from client.bounded import BoundedTransport
from client.instance import HEADER, START, instance_of
from client.link_errors import NotLetInError, OverError, UnreadableError, explain
from client.skew import MAX_SKEW_S, clock_skew, describe_skew
from common import packets, protocol
from common.errors import LinkError, WireError
from common.files import write_atomically
from common.objects import SPARE_BYTES, fold, most_objects, unfold, walk
from common.parsing import parse_json
from common.protocol import FLEET, WAIT_HEADER
from common.trust import PATH as TRUST_PATH
from common.trust import Trust
from common.waiting import PATH as WAITING_PATH
from common.waiting import Waiting
from common.waiting import parse as parse_waiting

log = logging.getLogger("pneumofed.link")

PACKED = {packets.HEADER: "1"}
HEARTBEAT_S = 15.0  # the server takes a site for gone after 60 s without one
MISSED_HEARTBEAT_S = 2.0
TIMEOUT_S = 30.0
T = TypeVar("T")

# Flower waits 1 s, then twice as long and so on, for an object that is on its way.
_pull = functools.partial(
    pull_objects, initial_backoff=0.05, backoff_cap=0.5, max_time=120.0, max_tries_per_object=None
)


class FleetLink:
    """One site's session with the server. `connect` may be called again and again; it keeps the session if it
    can."""

    def __init__(
        self,
        server: str,
        tls: ssl.SSLContext,
        key: ec.EllipticCurvePrivateKey,
        proxy: str | None,
        memory: Path,
    ) -> None:
        """`memory` is a file that keeps the session's number, so that a restarted agent can end what its
        predecessor left."""
        self._server, self._memory, self._wait_s = server, memory, 0
        self._packets = False  # whether the server takes them
        self._instance, self._start = instance_of(memory.parent), secrets.token_hex(8)
        self._key, self._public_key = key, public_key_to_bytes(key.public_key())
        version = RuntimeVersionHttpInterceptor(component_name="SuperNode")
        self._client = FleetHttpClient(f"https://{server}", interceptors=[version])
        self._proxy = proxy
        self.use_tls(tls)
        self._node: Node | None = None
        self._begun: tuple[PullMessagesResponse, dict[str, bytes]] | None = None
        """A request, and its objects as far as they came before the connection broke."""
        self.lost = threading.Event()
        """Set when the server does not know this session any more: whatever is being worked on is in vain."""
        self._ended = threading.Event()
        self._beating: threading.Thread | None = None

    def use_tls(self, tls: ssl.SSLContext) -> None:
        """From the next request on, connect with these certificates."""
        before = self._client._client
        transport = BoundedTransport(tls, self._proxy)
        node_key = b64encode(self._public_key).decode()  # it is the certificate's: TLS proves that it is ours
        own = {HEADER: self._instance, START: self._start, FLEET_HTTP_PUBLIC_KEY_HEADER: node_key}
        headers = {"accept-encoding": "identity", **own, **protocol.headers()}
        self._client._client = httpx.Client(
            transport=transport,
            timeout=TIMEOUT_S,
            headers=headers,
            event_hooks={"request": [self._sign, self._ask_to_wait]},
        )
        before.close()

    def _sign(self, request: httpx.Request) -> None:
        """The time of day, signed with our key: a server of version 0.1 asks for it. A later one knows by TLS
        who we are."""
        if not self._packets:
            time_of_day = now().isoformat()
            signature = sign_message(self._key, time_of_day.encode("ascii"))
            request.headers[TIMESTAMP_HEADER] = time_of_day
            request.headers[FLEET_HTTP_SIGNATURE_HEADER] = b64encode(signature).decode("ascii")

    def _ask_to_wait(self, request: httpx.Request) -> None:
        request.headers[WAIT_HEADER] = str(self._wait_s)  # heeded where messages are asked for

    def trust(self) -> Trust:
        """What the server tells of the federation's CA. Raises LinkError; WireError if it is not readable."""
        try:
            response = self._ask(TRUST_PATH)
            response.raise_for_status()
            if (why := protocol.objection(response.headers, "the server", "this site")) is not None:
                raise LinkError(f"{self._server}: {why}")
            if (skew := clock_skew(response)) is not None and abs(skew) > MAX_SKEW_S:
                log.warning("%s; set it right (NTP)", describe_skew(skew))
            return Trust.parse(parse_json(response.content))
        except (httpx.HTTPError, ssl.SSLError, OSError) as e:
            raise LinkError(explain(e, self._server)) from None
        except ValueError:
            raise WireError("what the server told of its CA is not readable") from None

    def waiting(self) -> list[Waiting]:
        """The runs that wait for their turn; none where the server is too old to say. Raises as `trust`
        does."""
        try:
            response = self._ask(WAITING_PATH)
            if response.status_code == HTTPStatus.NOT_FOUND:
                return []
            response.raise_for_status()
            return parse_waiting(parse_json(response.content))
        except (httpx.HTTPError, ssl.SSLError, OSError) as e:
            raise LinkError(explain(e, self._server)) from None
        except ValueError:
            raise WireError("what the server told of its queue is not readable") from None

    def _ask(self, path: str) -> httpx.Response:
        """Raises httpx.HTTPError if there is no answer; a refusal is one."""
        return self._send_to(path, b"", {})

    def _post(self, path: str, content: bytes, headers: dict[str, str]) -> httpx.Response:
        """As Flower's program calls it. Raises httpx.HTTPError, for a refusal too."""
        protobuf = {"content-type": PROTOBUF_MEDIA_TYPE, "accept": PROTOBUF_MEDIA_TYPE}
        response = self._send_to(path, content, {**protobuf, **headers})
        response.raise_for_status()
        return response

    def _send_to(self, path: str, content: bytes, headers: dict[str, str]) -> httpx.Response:
        return self._client._client.post(f"https://{self._server}{path}", content=content, headers=headers)

    @property
    def node(self) -> int:
        """The number that the server gave this site."""
        assert self._node is not None
        return int(self._node.node_id)

    def connect(self) -> None:
        """Be an active node: keep the session, or begin one.

        Raises:
            LinkError: the server cannot be reached, or does not let us in (for up to a minute after a crash:
            try again).
        """
        if self._node is not None and self._beat():
            return
        self._end_predecessor()
        self._begun = None
        request = ActivateNodeRequest(
            public_key=self._public_key, heartbeat_interval=HEARTBEAT_DEFAULT_INTERVAL
        )
        self._node = Node(node_id=self._call(self._client.ActivateNode, request).node_id)
        write_atomically(self._memory, json.dumps({"node": self.node}).encode())
        self.lost.clear()
        if self._beating is None:
            self._beating = threading.Thread(target=self._keep_beating, name="heartbeat", daemon=True)
            self._beating.start()

    def _end_predecessor(self) -> None:
        """Tell the server that the process before this one, if it crashed, is gone: it need not wait for its
        answers."""
        try:
            node = int(json.loads(self._memory.read_text(encoding="utf-8"))["node"])
            self._call(self._client.DeactivateNode, DeactivateNodeRequest(node_id=node))
            time.sleep(1.0)  # for the server to notice, before the node is there again
        except (OSError, ValueError, KeyError, TypeError):
            return  # there was none
        except LinkError:
            return  # it ended properly, or the server has forgotten it

    def _beat(self) -> bool:
        """Whether the server knows the session. Raises LinkError if the server cannot be reached."""
        request = SendNodeHeartbeatRequest(node=self._node, heartbeat_interval=HEARTBEAT_DEFAULT_INTERVAL)
        try:
            known = bool(self._call(self._client.SendNodeHeartbeat, request).success)
        except NotLetInError:
            known = False
        if not known:
            self._node = None
            self.lost.set()
        return known

    def _keep_beating(self) -> None:
        pause = HEARTBEAT_S
        while not self._ended.wait(pause):
            if self._node is None:
                continue
            try:
                self._beat()
                pause = HEARTBEAT_S
            except LinkError:
                # To learn quickly whether the server, when it is back, still knows us.
                pause = MISSED_HEARTBEAT_S

    def receive(self, tensor_bytes: Callable[[], int], wait_s: int = 0) -> Message | None:
        """The next request, whole; None if there is none now. After a LinkError the next call goes on with
        what has begun to come.

        Args:
            tensor_bytes: asked when there is one: the most that its tensors may have.
            wait_s: for how long the server may wait for one; a server of before answers at once.

        Raises:
            UnreadableError: it is larger, or no message.
            LinkError: the server cannot be reached.
        """
        self._wait_s = wait_s
        begun = self._begun or self._call(self._pull, PullMessagesRequest(node=self._node))
        pulled, objects = begun
        self._begun, head = None, None
        if not pulled.messages_list:
            return None
        try:
            head = message_from_proto(pulled.messages_list[0])
            return self._fetch(pulled, objects, tensor_bytes())
        except UnreadableError as e:
            raise UnreadableError(e.why, head) from None
        except (OverError, NotLetInError):
            raise
        except LinkError:
            self._begun = begun
            raise
        except ObjectPullError:
            raise OverError("the server took a request back") from None
        except WireError as e:
            raise UnreadableError(str(e), head) from None
        except Exception as e:  # what a hostile server may make the decoders raise is not known
            raise UnreadableError(type(e).__name__, head) from None

    def _pull(self, request: PullMessagesRequest) -> tuple[PullMessagesResponse, dict[str, bytes]]:
        """A message, if there is one, and those of its objects that came with it."""
        response = self._post(f"{FLEET}/pull-messages", request.SerializeToString(), PACKED)
        self._packets = response.headers.get("content-type") == packets.MEDIA_TYPE
        first, objects = packets.unpack(response.content) if self._packets else (response.content, {})
        return PullMessagesResponse.FromString(first), objects

    def _fetch(self, pulled: PullMessagesResponse, objects: dict[str, bytes], tensor_bytes: int) -> Message:
        """Pull the other objects of a request into `objects`, tell the server that they are here, and put
        them together."""
        run_id, tree = pulled.messages_list[0].metadata.run_id, pulled.message_object_trees[0]
        ids, most = list(dict.fromkeys(walk(tree, most_objects(tensor_bytes)))), tensor_bytes + SPARE_BYTES
        pull_one = make_pull_object_fn_protobuf(
            lambda r: self._call(self._client.PullObject, r), cast(Node, self._node), run_id
        )
        contents = {name: objects[name] for name in ids if name in objects}
        n_bytes = sum(map(len, contents.values()))

        def pull_bounded(object_id: str) -> bytes:
            nonlocal n_bytes
            content = objects[object_id] = pull_one(object_id)
            n_bytes += len(content)
            if n_bytes > most:
                raise WireError(f"it is larger than the {tensor_bytes} bytes of the largest approved model")
            return content

        contents |= _pull([name for name in ids if name not in contents], pull_bounded)
        confirm = ConfirmMessageReceivedRequest(
            node=self._node, run_id=run_id, message_object_id=tree.object_id
        )
        self._call(self._client.ConfirmMessageReceived, confirm)
        return unfold(tree.object_id, contents, tensor_bytes)

    def send(self, reply: Message) -> None:
        """Answer a request.

        Raises:
            OverError: the server does not wait for it any more.
            LinkError: the server cannot be reached.
        """
        run_id = reply.metadata.run_id
        reply.metadata.__dict__["_message_id"] = reply.object_id
        with no_object_id_recompute():
            tree, objects = fold(reply)
            head = message_to_proto(remove_content_from_message(reply) if reply.has_content() else reply)
            request = PushMessagesRequest(
                node=self._node,
                messages_list=[head],
                message_object_trees=[tree],
                clientapp_runtime_list=[0.0],
            )
            answer = self._call(self._announce, request, objects)
            if not (answer.session_id if self._packets else answer.objects_to_push):
                raise OverError("the server does not wait for this answer any more")
            push_one = make_push_object_fn_protobuf(
                lambda r: self._call(self._client.PushObject, r),
                cast(Node, self._node),
                run_id,
                answer.session_id,
            )
            try:
                push_objects(objects, push_one, object_ids_to_push=set(answer.objects_to_push))
            except ObjectPushError:
                raise OverError("the server does not take this answer any more") from None

    def _announce(
        self, request: PushMessagesRequest, objects: dict[str, InflatableObject]
    ) -> PushMessagesResponse:
        """Which objects of a reply are still to be sent: small ones go with it where the server takes them
        so."""
        if not self._packets:
            return self._client.PushMessages(request)
        small = (
            one.deflate()
            for one in objects.values()
            if not isinstance(one, ArrayChunk) or len(one.data) < packets.SMALL_BYTES
        )
        packet = packets.pack(request.SerializeToString(), small)
        response = self._post(f"{FLEET}/push-messages", packet, PACKED)
        return PushMessagesResponse.FromString(response.content)

    def close(self) -> None:
        """Say goodbye, so that the server does not wait."""
        self._ended.set()
        if self._node is not None:
            try:
                self._call(self._client.DeactivateNode, DeactivateNodeRequest(node_id=self.node))
                self._memory.unlink(missing_ok=True)
            except (LinkError, OSError) as e:
                log.info("could not say goodbye: %s", e)
        self._client._client.close()

    def _call(self, function: Callable[..., T], *request: Any) -> T:
        try:
            return function(*request)
        except httpx.HTTPStatusError as e:
            if e.response.status_code == httpx.codes.FORBIDDEN:
                raise OverError("the run is over") from None
            if e.response.status_code == httpx.codes.UNAUTHORIZED:
                self.lost.set()
                self._packets = False  # it may have been put back to a version that knows of none
                raise NotLetInError(explain(e, self._server)) from None
            raise LinkError(explain(e, self._server)) from None
        except WireError as e:
            raise UnreadableError(str(e), None) from None
        except RecursionError:
            raise UnreadableError("RecursionError", None) from None
        except (httpx.HTTPError, ssl.SSLError, ValueError, RuntimeError) as e:
            raise LinkError(explain(e, self._server)) from None
        except Exception as e:  # what a hostile server may make the decoders raise is not known
            raise UnreadableError(type(e).__name__, None) from None
