"""The one port that sites reach: Flower's Fleet service alone, under TLS 1.3 with mutual TLS.

No Control API, no Runtime API, no registration, no bundles: those paths are not there. A request is let in
only if the certificate of its connection, its node key and `sites.json` name the same site (server/door.py),
and speaks for that site's node alone. What it brings goes into our own parcels (server/parcels.py).

Uses Flower's internals (link state): held to one version by pyproject.toml and by
tests/server/test_fleet.py.
"""

import logging
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import asdict

import uvicorn
from flwr.common.constant import HEARTBEAT_DEFAULT_INTERVAL, NOOP_ACCOUNT_NAME, NOOP_FLWR_AID
from flwr.proto.fleet_pb2 import ActivateNodeRequest
from flwr.server.superlink.linkstate import LinkState, LinkStateFactory
from flwr.supercore.constant import FLWR_IN_MEMORY_DB_NAME
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.superlink.federation import NoOpFederationManager
from google.protobuf.message import Message as ProtobufMessage

from common.errors import RunError
from common.logs import Sparing
from common.waiting import Waiting, to_tree
from server.bells import Bells
from server.calls import Calls
from server.door import Door, KnowsPeer
from server.parcels import Parcels
from server.porch import Porch, raise_descriptors
from server.provision import Admissions
from server.renewal import note_shown, trust_for
from server.settings import ServerFolder, ServerSettings
from server.steady import keep_flower_steady

log = logging.getLogger("pneumofed.server")
refusals = Sparing(log)
for _talks in ("uvicorn.error", "asyncio"):  # of what a site sends, as often as it sends it
    logging.getLogger(_talks).setLevel(logging.ERROR)


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
        self._door = Door(Calls(self), self)
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
            admitted = self.admissions.known()
            for key in admitted.keys() - self._nodes.keys():
                self._add_node(key, admitted[key].name)
            for key in self._nodes.keys() - admitted.keys():
                node = self._nodes.pop(key)
                # Flower cannot delete a node that was never online.
                self.state.acknowledge_node_heartbeat(node, HEARTBEAT_DEFAULT_INTERVAL)
                self.state.delete_node(NOOP_FLWR_AID, node)
                log.warning("node %s lost its admission", node)

    def _add_node(self, key: str, site: str) -> None:
        try:
            self._nodes[key] = self.state.create_node(
                NOOP_FLWR_AID, NOOP_ACCOUNT_NAME, key.encode(), HEARTBEAT_DEFAULT_INTERVAL
            )
        except ValueError:  # Flower takes no key again
            refusals.warning(
                "its key was revoked while this server ran: start the server again to let it in, or admit "
                "the site with a new key",
                about=site,
            )

    def site_of(self, node: int) -> str | None:
        """The site's name; None for a node that is not (any longer) admitted."""
        admitted = self.admissions.known()
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

    def owner_of(self, certificate_key: str) -> str | None:
        """The admitted site whose certificate it is, whatever the request says besides."""
        entry = self.admissions.current().get(certificate_key)
        return entry.name if entry else None

    def own_node(self, certificate_key: str, request: ProtobufMessage) -> bool:
        """Whether a request names the node, or the key, of the site whose certificate it came with.

        Takes the place of Flower's node authentication, a signature over the time of day with the key of the
        certificate that TLS has proved already: it says nothing more, and fails where clocks differ.
        """
        if isinstance(request, ActivateNodeRequest):
            return request.public_key == certificate_key.encode()
        node: object = getattr(getattr(request, "node", request), "node_id", None)
        return node is not None and self._nodes.get(certificate_key) == node
