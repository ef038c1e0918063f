"""The one port that sites reach: Flower's Fleet service alone, under TLS 1.3 with mutual TLS.

No Control API, no Runtime API, no registration, no bundles: those paths are not there. A request is let in
only if the certificate of its connection, its node key and `sites.json` name the same site (server/door.py),
and speaks for that site's node alone. What it brings goes into our own parcels (server/parcels.py).

Uses Flower's internals (Fleet router, middleware, link state): held to one version by pyproject.toml and by
tests/server/test_fleet.py.
"""

import gc
import logging
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated

import uvicorn
from fastapi import APIRouter, FastAPI
from flwr.common.constant import HEARTBEAT_DEFAULT_INTERVAL, NOOP_ACCOUNT_NAME, NOOP_FLWR_AID
from flwr.proto.fleet_pb2 import ActivateNodeRequest, PushMessagesRequest, PushMessagesResponse
from flwr.proto.message_pb2 import PushObjectRequest, PushObjectResponse
from flwr.server.superlink.linkstate import LinkState, LinkStateFactory
from flwr.supercore.constant import FLWR_IN_MEMORY_DB_NAME
from flwr.supercore.error import http_error_translator
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.protobuf.translation import PROTOBUF_REQUEST_DEPENDENCY, ProtobufTranslationMiddleware
from flwr.superlink.federation import NoOpFederationManager
from flwr.superlink.routers.fleet.router import router as flower_fleet
from google.protobuf.message import Message as ProtobufMessage
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from common.errors import RunError
from common.waiting import Waiting, to_tree
from server.bells import Bells
from server.door import CALLS, Door, KnowsPeer
from server.parcels import Parcels
from server.porch import Porch, raise_descriptors
from server.provision import Admissions
from server.renewal import note_shown, trust_for
from server.settings import ServerFolder, ServerSettings
from server.steady import keep_flower_steady

log = logging.getLogger("pneumofed.server")

OURS = ("push-messages", "push-object")  # what a site sends is ours to judge, not Flower's


class FleetService:
    """The Fleet service and the link state behind it, which is in memory: what must last is the run's
    checkpoint."""

    def __init__(self, folder: ServerFolder, settings: ServerSettings) -> None:
        keep_flower_steady()
        self._folder = folder
        self.parcels, self.bells = Parcels(folder.path), Bells()
        self.admissions = Admissions(folder.sites)
        objects = ObjectStoreFactory(FLWR_IN_MEMORY_DB_NAME)
        self._states = LinkStateFactory(FLWR_IN_MEMORY_DB_NAME, NoOpFederationManager(), objects)
        self.state: LinkState = self._states.state()
        self._nodes: dict[str, int] = {}  # public key -> node
        self.seen: dict[str, float] = {}
        """Site -> when its last request came, Unix seconds."""
        self.waiting: Callable[[str], list[Waiting]] = lambda site: []
        """Site -> the queued runs that it is to take part in; set by whoever keeps the queue."""
        self._lock = threading.Lock()
        self._door = Door(self._make_app(), self)
        config = uvicorn.Config(
            self._door, http=KnowsPeer, ws="none", lifespan="off",
            loop="asyncio",  # whose listening sockets may be ours
            ssl_certfile=folder.certificate, ssl_keyfile=folder.key, ssl_ca_certs=str(folder.ca_certificate),
            ssl_cert_reqs=ssl.CERT_REQUIRED, log_config=None, access_log=False, server_header=False,
            proxy_headers=False,
        )  # fmt: skip
        config.load()
        assert config.ssl is not None
        self._tls, self._certificates = config.ssl, self._stamp_of_certificates()
        self._tls.minimum_version = ssl.TLSVersion.TLSv1_3
        self._server = uvicorn.Server(config)
        self._listen = (settings.listen, settings.port)

    def _make_app(self) -> FastAPI:
        router = APIRouter(route_class=flower_fleet.route_class)
        wanted = {f"{flower_fleet.prefix}/{path}" for path in CALLS if path not in OURS}
        router.routes = [route for route in flower_fleet.routes if getattr(route, "path", "") in wanted]
        assert len(router.routes) + len(OURS) == len(CALLS), "Flower's Fleet API has changed"
        app = FastAPI(
            docs_url=None, redoc_url=None, openapi_url=None,
            middleware=[
                Middleware(BaseHTTPMiddleware, dispatch=http_error_translator),
                Middleware(ProtobufTranslationMiddleware),
                Middleware(_OwnNode, service=self),
            ],
        )  # fmt: skip
        app.state.linkstate_factory, app.state.enable_supernode_auth = self._states, True
        app.include_router(router)
        app.include_router(_take_replies(self.parcels))
        return app

    def start(self) -> None:
        """Listen. Raises RunError if the address cannot be used."""
        self.follow_admissions()
        raise_descriptors()
        try:
            self._door.porch = porch = Porch.listen_at(*self._listen)
        except OSError as e:
            raise RunError(
                "cannot listen on {}:{}: {}; change listen or port in server.yaml".format(
                    *self._listen, e.strerror
                )
            ) from None
        self._thread = threading.Thread(target=self._server.run, args=([porch],), name="fleet", daemon=True)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop listening; open requests get a moment."""
        self._server.should_exit = True
        self._thread.join(timeout=5)

    def follow_admissions(self) -> None:
        """Make Flower's nodes the admitted sites: new ones are added, revoked ones end."""
        with self._lock:
            admitted = self.admissions.current()
            for key in admitted.keys() - self._nodes.keys():
                self._nodes[key] = self.state.create_node(
                    NOOP_FLWR_AID, NOOP_ACCOUNT_NAME, key.encode(), HEARTBEAT_DEFAULT_INTERVAL
                )
            for key in self._nodes.keys() - admitted.keys():
                node = self._nodes.pop(key)
                # Flower cannot delete a node that was never online.
                self.state.acknowledge_node_heartbeat(node, HEARTBEAT_DEFAULT_INTERVAL)
                self.state.delete_node(NOOP_FLWR_AID, node)
                log.warning("node %s lost its admission", node)

    def site_of(self, node: int) -> str | None:
        """The site's name; None for a node that is not (any longer) admitted."""
        admitted = self.admissions.current()
        return next(
            (admitted[key].name for key, n in self._nodes.items() if n == node and key in admitted), None
        )

    def trust_answer(self, site: str, fingerprint: str) -> dict[str, object]:
        """What the site is told of the CA. The certificate it shows is noted: how far a renewal has come."""
        note_shown(self._folder, site, fingerprint)
        return asdict(trust_for(self._folder, site))

    def waiting_answer(self, site: str) -> list[dict[str, str]]:
        """What the site is told of the runs whose turn has not come."""
        return to_tree(self.waiting(site))

    async def message_for(self, certificate_key: str, seconds: float) -> None:
        """Return once there may be a message for the site, or `seconds` are over."""
        node = self._nodes.get(certificate_key)
        if node is not None:
            await self.bells.wait(node, seconds)

    def follow_certificates(self) -> None:
        """Take up renewed certificates, the server's or the CA's; open connections go on."""
        stamp = self._stamp_of_certificates()
        if stamp != self._certificates:
            self._certificates = stamp
            try:
                self._tls.load_cert_chain(self._folder.certificate, self._folder.key)
                self._tls.load_verify_locations(self._folder.ca_certificate)
                log.info("took up renewed certificates")
            except (ssl.SSLError, OSError) as e:  # what was loaded before still serves
                log.error("%s: cannot be taken up: %s", self._folder.certificate, e)

    def _stamp_of_certificates(self) -> tuple[int, ...]:
        return tuple(
            path.stat().st_mtime_ns for path in (self._folder.certificate, self._folder.ca_certificate)
        )

    def let_in(self, certificate_key: str, node_key: str) -> str | None:
        """The site behind a request, if its certificate's key is admitted and is also its node key."""
        entry = self.admissions.current().get(certificate_key)
        if entry is None or node_key != certificate_key:
            return None
        if entry.public_key not in self._nodes:
            self.follow_admissions()
        self.seen[entry.name] = time.time()
        return entry.name

    def own_node(self, certificate_key: str, request: ProtobufMessage) -> bool:
        """Whether a request names the node, or the key, of the site whose certificate it came with."""
        if isinstance(request, ActivateNodeRequest):
            return request.public_key == certificate_key.encode()
        node: object = getattr(getattr(request, "node", request), "node_id", None)
        return node is not None and self._nodes.get(certificate_key) == node


class _OwnNode(BaseHTTPMiddleware):
    """A site speaks for its own node alone.

    Takes the place of Flower's node authentication, a signature over the time of day with the key of the
    certificate that TLS has proved already: it says nothing more, and fails where clocks differ.
    """

    def __init__(self, app: ASGIApp, service: FleetService) -> None:
        super().__init__(app)
        self._service = service

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        asked = getattr(request.state, "protobuf_request", None)
        if asked is not None and not self._service.own_node(request.scope["peer_key"], asked):
            return JSONResponse({"detail": "not this site's node"}, 401)
        return await call_next(request)


def _take_replies(parcels: Parcels) -> APIRouter:
    """The two calls by which a site answers, into our parcels instead of Flower's object store."""
    router = APIRouter(prefix=flower_fleet.prefix, route_class=flower_fleet.route_class)
    answered = _Answered()

    @router.post("/push-messages")
    def push_messages(
        request: Annotated[PushMessagesRequest, PROTOBUF_REQUEST_DEPENDENCY],
    ) -> PushMessagesResponse:
        return parcels.announce(request)

    @router.post("/push-object")
    def push_object(
        request: Annotated[PushObjectRequest, PROTOBUF_REQUEST_DEPENDENCY],
    ) -> PushObjectResponse:
        answered.note(len(request.object_content))
        return PushObjectResponse(stored=parcels.put(request))

    return router


class _Answered:
    """Requests that were answered hold themselves, with all that came in them, until Python looks for that:
    which it does by the number of objects, not by their size."""

    MOST_BYTES = 32 * 2**20

    def __init__(self) -> None:
        self._n_bytes = 0

    def note(self, n_bytes: int) -> None:
        """So many more came; once there are many, those of before are let go."""
        self._n_bytes += n_bytes
        if self._n_bytes > self.MOST_BYTES:
            self._n_bytes = 0
            gc.collect()
