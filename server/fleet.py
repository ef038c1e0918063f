"""The one port that sites reach: Flower's Fleet service alone, under TLS 1.3 with mutual TLS and node
authentication.

No Control API, no Runtime API, no registration, no bundles: those paths are not there. A request is let in
only if the certificate of its connection, its node key and `sites.json` name the same site.

Uses Flower's internals (Fleet router, middleware, link state): held to one version by pyproject.toml and by
tests/server/test_fleet.py.
"""

import asyncio
import binascii
import contextlib
import logging
import ssl
import threading
import time
from base64 import b64decode
from dataclasses import asdict

import uvicorn
from cryptography import x509
from fastapi import APIRouter, FastAPI
from flwr.common.constant import HEARTBEAT_DEFAULT_INTERVAL, NOOP_ACCOUNT_NAME, NOOP_FLWR_AID
from flwr.server.superlink.linkstate import LinkState, LinkStateFactory
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER, FLWR_IN_MEMORY_DB_NAME
from flwr.supercore.error import http_error_translator
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.protobuf.translation import ProtobufTranslationMiddleware
from flwr.superlink.federation import NoOpFederationManager
from flwr.superlink.routers.fleet.node_auth import NodeAuthMiddleware
from flwr.superlink.routers.fleet.router import router as flower_fleet
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from common.credentials import public_pem, sha256_fingerprint
from common.errors import RunError
from common.trust import PATH as TRUST_PATH
from common.trust import Trust
from server.provision import Admissions
from server.renewal import note_shown, trust_for
from server.settings import ServerFolder, ServerSettings

log = logging.getLogger("pneumofed.server")

PATHS = (
    "activate-node", "deactivate-node", "send-node-heartbeat", "pull-messages", "push-messages",
    "push-object", "pull-object", "confirm-message-received",
)  # fmt: skip
MAX_BODY_BYTES = 32 * 2**20  # Flower cuts arrays into chunks of 5 MiB


class FleetService:
    """The Fleet service and the link state behind it, which is in memory: what must last is the run's
    checkpoint."""

    def __init__(self, folder: ServerFolder, settings: ServerSettings) -> None:
        self._folder = folder
        self.admissions = Admissions(folder.sites)
        objects = ObjectStoreFactory(FLWR_IN_MEMORY_DB_NAME)
        self._states = LinkStateFactory(FLWR_IN_MEMORY_DB_NAME, NoOpFederationManager(), objects)
        self.state: LinkState = self._states.state()
        self._nodes: dict[str, int] = {}  # public key -> node
        self._lock = threading.Lock()
        config = uvicorn.Config(
            _Door(self._make_app(), self), host=settings.listen, port=settings.port, http=_KnowsPeer,
            ws="none", lifespan="off",
            ssl_certfile=folder.certificate, ssl_keyfile=folder.key, ssl_ca_certs=str(folder.ca_certificate),
            ssl_cert_reqs=ssl.CERT_REQUIRED, log_config=None, access_log=False, server_header=False,
            proxy_headers=False,
        )  # fmt: skip
        config.load()
        assert config.ssl is not None
        self._tls, self._certificates = config.ssl, self._stamp_of_certificates()
        self._tls.minimum_version = ssl.TLSVersion.TLSv1_3
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name="fleet", daemon=True)
        self._where = f"{settings.listen}:{settings.port}"

    def _make_app(self) -> FastAPI:
        router = APIRouter(route_class=flower_fleet.route_class)
        wanted = {f"{flower_fleet.prefix}/{path}" for path in PATHS}
        router.routes = [route for route in flower_fleet.routes if getattr(route, "path", "") in wanted]
        assert len(router.routes) == len(PATHS), "Flower's Fleet API has changed"
        app = FastAPI(
            docs_url=None, redoc_url=None, openapi_url=None,
            middleware=[
                Middleware(BaseHTTPMiddleware, dispatch=http_error_translator),
                Middleware(ProtobufTranslationMiddleware),
                Middleware(NodeAuthMiddleware),
            ],
        )  # fmt: skip
        app.state.linkstate_factory, app.state.enable_supernode_auth = self._states, True
        app.include_router(router)
        return app

    def _run(self) -> None:
        with contextlib.suppress(SystemExit):  # what uvicorn raises when it cannot listen
            self._server.run()

    def start(self) -> None:
        """Listen. Raises RunError if the address cannot be used."""
        self.follow_admissions()
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise RunError(
                    f"cannot listen on {self._where}: in use, or not allowed; change listen or port in "
                    "server.yaml"
                )
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

    def trust_of(self, site: str, fingerprint: str) -> Trust:
        """What the site is told of the CA. The certificate it shows is noted: how far a renewal has come."""
        note_shown(self._folder, site, fingerprint)
        return trust_for(self._folder, site)

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

    def let_in(self, certificate_key: str, header: str) -> str | None:
        """The site behind a request, if its certificate's key is admitted and is also its node key."""
        try:
            node_key = b64decode(header, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return None
        entry = self.admissions.current().get(certificate_key)
        if entry is None or node_key != certificate_key:
            return None
        if entry.public_key not in self._nodes:
            self.follow_admissions()
        return entry.name


class _Door:
    """Lets a request in only from an admitted site; ends it before Flower sees it otherwise."""

    def __init__(self, app: ASGIApp, service: FleetService) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        length = headers.get("content-length", "")
        if not length.isdigit() or int(length) > MAX_BODY_BYTES:
            await PlainTextResponse("request too large", 413)(scope, receive, send)
            return
        node_key = headers.get(FLEET_HTTP_PUBLIC_KEY_HEADER.lower(), "")
        site = self._service.let_in(scope.get("peer_key", ""), node_key)
        if site is None:
            log.warning(
                "refused a request: its certificate is not an admitted site's, or not that of its node key"
            )
            await PlainTextResponse("not admitted", 401)(scope, receive, send)
        elif scope["path"] == TRUST_PATH:
            trust = self._service.trust_of(site, scope.get("peer_fingerprint", ""))
            await JSONResponse(asdict(trust))(scope, receive, send)
        else:
            await self._app(scope, receive, send)


class _KnowsPeer(HttpToolsProtocol):
    """uvicorn's HTTP, with the key of the client's certificate in the scope as `peer_key` (PEM)."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        der = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
        certificate, app = x509.load_der_x509_certificate(der), self.app
        peer = {
            "peer_key": public_pem(certificate.public_key()).decode(),
            "peer_fingerprint": sha256_fingerprint(certificate),
        }

        async def with_peer(scope: Scope, receive: Receive, send: Send) -> None:
            await app({**scope, **peer}, receive, send)

        self.app = with_peer
