"""The site's service: one warm process that waits for requests, lets the gate judge them, has them worked on,
and answers.

Code that a server sends is never fetched, unpacked, imported or run: the ClientApp is the one that is
installed here.
"""

import logging
import math
import shutil
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from flwr.app import Message

from client.curves import OwnCurves
from client.governance.approval import Approvals
from client.governance.gate import Admitted, Gate
from client.governance.ledger import Budget
from client.governance.policy import Policy
from client.link import FleetLink
from client.link_errors import OverError, UnreadableError
from client.pieces import clear_pieces
from client.provision import take_in
from client.settings import Hospital, SiteFolder
from client.site_config import SiteConfig
from client.worker import Worker
from common import wire
from common.audit import AuditLog
from common.credentials import (
    EXPIRES_SOON_DAYS,
    client_tls,
    common_name,
    days_left,
    read_certificate,
    read_key,
)
from common.errors import ConfigError, LinkError, RefusedError, RunError, WireError
from common.files import held
from common.flower import require_flower
from common.logs import Sparing, set_up_logs
from common.malloc import give_memory_back
from common.monitoring import Monitoring
from common.notices import Herald
from common.protocol import program
from common.text import quoted

log = logging.getLogger("pneumofed.agent")
oddities = Sparing(log)

APP = "client.app:app"
WAIT_S = 2
"""For which the server is to wait for a request before it says that there is none. A stop waits, too."""
POLLS = ((2.0, 0.02), (30.0, 0.1), (math.inf, 1.0))
"""Where it does not, as one of before: seconds since the last work, and between two questions until then."""
RETRY_S = 2.0
REFUSED_AT_ONCE, FIRST_PAUSE_S, LONGEST_PAUSE_S = (
    5,
    0.1,
    10.0,
)  # requests in a row that are refused, before each costs a pause
UNREAD_S = 30.0  # for the refusal of a request that could not be read
TRUST_EVERY_S, WAITING_EVERY_S = 3600.0, 10.0
MIN_FREE_BYTES = 20_000_000


class Agent:
    """Serves one site. Settings and decisions are read anew for every message."""

    def __init__(self, folder: SiteFolder, link: FleetLink, monitoring: Monitoring, app: str = APP) -> None:
        self._folder, self._link, self._monitoring, self._app = folder, link, monitoring, app
        self._certificate = read_certificate(folder.certificate)
        self._site = common_name(self._certificate)
        self._approvals = Approvals(folder.plans)
        self._gate = Gate(self._approvals, AuditLog(folder.audit), folder.cohort_identity, folder.ledger)
        self._curves = OwnCurves(folder.curves)
        self._herald = Herald(f"pneumofed at {self._site}", lambda: folder.settings().notices)
        self._worker: Worker | None = None
        self._worker_is: object = None  # what the worker was started for
        self._last_problem = ""
        self._refused = 0  # requests in a row
        self._last_work = 0.0
        self._trusted = 0.0  # when the server was last asked about its CA
        self._looked = -math.inf  # and about its queue
        # The request in hand, and when nobody waits for it any more.
        self._open: tuple[Message, float] | None = None
        self.ended = threading.Event()
        self._answers = monitoring.counter("answers_total", "requests by what became of them", "outcome")
        self._bytes = monitoring.counter("sent_bytes_total", "bytes of the tensors that left the site")
        left = monitoring.gauge("certificate_days_left", "until this site's certificate ends")
        left.set_function(lambda: days_left(self._certificate))
        self._connected = monitoring.gauge("connected", "1 if the server can be reached")

    def run(self) -> None:
        """Serve until `ended` is set, through every failure of the server and the network."""
        while not self.ended.is_set():
            try:
                self._require_disk()
                self._link.connect()
                self._tell_connected(True)
                self._follow_trust()
                self._serve()
            except (LinkError, RunError) as e:
                self._tell_connected(False, str(e))
                self.ended.wait(RETRY_S)
            except OSError as e:
                self._tell_connected(
                    False,
                    f"{e.filename or self._folder.path}: {e.strerror}; nothing is done until that is cured",
                )
                self.ended.wait(RETRY_S)
        self._stop_worker()
        self._curves.close()
        self._link.close()

    def _tell_connected(self, connected: bool, problem: str = "") -> None:
        self._connected.set(connected)
        self._monitoring.set_serving(connected)
        if problem != self._last_problem:  # once, not every two seconds for as long as it lasts
            (log.warning if problem else log.info)(problem or "connected, waiting for requests")
            self._last_problem = problem

    def _follow_trust(self) -> None:
        """Take up what was renewed or revoked. What is odd is said, and changes nothing."""
        self._trusted = time.monotonic()
        try:
            changes = take_in(self._folder, self._link.trust())
        except (WireError, LinkError) as e:
            log.error("what the server tells of the CA is not taken up: %s", e)
            return
        if changes:
            self._link.use_tls(client_tls(self._folder.ca, self._folder.certificate, self._folder.key))
            log.info("%s", ", ".join(changes))
            self._link.trust()  # with the new certificate: the server knows then that it is here
        self._certificate = read_certificate(self._folder.certificate)
        left = days_left(self._certificate)
        if left < EXPIRES_SOON_DAYS:
            log.warning("this site's certificate ends in %.0f days; tell the coordinator", left)
            text = f"This site's certificate ends in {left:.0f} days: ask the coordinator to renew it."
            self._herald.tell("certificate", "a certificate ends soon", text)

    def _follow_queue(self) -> None:
        """Show whoever decides here what is to run later. What is odd is said, and changes nothing."""
        self._looked = time.monotonic()
        try:
            queue = self._link.waiting()
        except (WireError, LinkError) as e:
            oddities.warning(str(e), "the server's queue", kind="whole")
            return
        for waiting in queue:
            try:
                self._gate.show(waiting)
            except RefusedError as e:
                oddities.warning(f"run {waiting.run}: passed over: {e}", "the server's queue", kind="a run")
        self._tell_pending()

    def _tell_pending(self) -> None:
        """Whoever decides here hears that a plan waits."""
        for sha256 in self._approvals.pending():
            if unread := self._approvals.unread(sha256):
                oddities.warning(unread, f"plan {sha256[:12]}")
            look = f"pneumofed client pending --dir {quoted(self._folder.path)}"
            waits = f"Plan {sha256[:12]} waits for a decision: {look}"
            self._herald.tell(f"plan {sha256}", "a plan waits for a decision", waits)

    def _require_disk(self) -> None:
        """Nothing is pulled that could not be written down."""
        if shutil.disk_usage(self._folder.path).free < MIN_FREE_BYTES:
            raise RunError(
                f"{self._folder.path}: less than {MIN_FREE_BYTES // 1_000_000} MB free; nothing is done "
                "until there is more"
            )

    def _serve(self) -> None:
        while not self.ended.is_set() and not self._link.lost.is_set():
            self._require_disk()
            try:
                asked = time.monotonic()
                self._open = self._open or self._receive()
                if self._open is None:
                    self._keep_up()
                    if time.monotonic() - asked < WAIT_S / 2:
                        since = time.monotonic() - self._last_work
                        self.ended.wait(next(pause for until, pause in POLLS if since < until))
                    continue
                self._last_work = time.monotonic()
                self._handle(*self._open)
                self._last_work = time.monotonic()
            except OverError as e:
                log.info("%s", e)
            except UnreadableError as e:
                self._refuse_unread(e)
            self._open = None
            self._keep_up()
            self.ended.wait(self._pause())

    def _keep_up(self) -> None:
        """Between requests: what the server has to tell beside them, when it is time to ask."""
        if time.monotonic() - self._trusted > TRUST_EVERY_S:
            self._follow_trust()
        if time.monotonic() - self._looked > WAITING_EVERY_S:
            self._follow_queue()

    def _refuse_unread(self, e: UnreadableError) -> None:
        """One refusal and a line in the audit log; no request of a server ends the agent."""
        log.error("%s", e)
        self._refused += 1
        if e.head is None:
            self._gate.note_unreadable(str(e))
        else:
            until = time.monotonic() + UNREAD_S
            self._send(e.head, self._gate.refuse(e.head, str(e)), until)

    def _pause(self) -> float:
        """Seconds before the next request: a server that only sends what is refused fills no log."""
        over = self._refused - REFUSED_AT_ONCE
        return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0**over) if over > 0 else 0.0

    def _receive(self) -> tuple[Message, float] | None:
        request = self._link.receive(self._approvals.tensor_bytes, WAIT_S)
        # By our own clock: the server's may differ.
        return None if request is None else (request, time.monotonic() + request.metadata.ttl)

    def _handle(self, request: Message, end: float) -> None:
        """Judge, work on and answer one request. It stays open if that raises OSError: what could not be
        written down is not answered, and tried again when it can be."""
        if why := self._in_vain(request, end):
            self._give_up(request, why)
            reply, admitted = None, None
        else:
            reply, admitted = self._answer(request, end)
        if reply is None or (reply := self._send(request, reply, end, admitted)) is None:
            self._answers.labels("abandoned").inc()
            return
        self._refused = self._refused + 1 if reply.has_error() else 0
        outcome = "refused" if reply.has_error() else request.metadata.message_type
        n_bytes = wire.payload_bytes(reply)
        self._answers.labels(outcome).inc()
        self._bytes.inc(n_bytes)
        log.info(
            "answered a %s: %s",
            request.metadata.message_type[:40],
            reply.error.reason if reply.has_error() else f"{n_bytes} bytes",
        )

    def _send(
        self, request: Message, reply: Message, end: float, admitted: Admitted | None = None
    ) -> Message | None:
        """Send until it has arrived, or until nobody waits for it: a network that fails for a while costs no
        round. What was decided meanwhile holds. What arrived; None if nothing did."""
        again = False
        while True:
            try:
                if again and admitted is not None:
                    reply = self._judged(admitted, partial(self._gate.reconsider, admitted, reply))
                self._link.send(reply)
                return reply
            except OverError as e:
                self._give_up(request, str(e))
                return None
            except (LinkError, OSError) as e:  # OSError: what is decided now cannot be written down
                self._tell_connected(False, str(e))
            if why := self._in_vain(request, end):
                self._give_up(request, why)
                return None
            self.ended.wait(RETRY_S)
            again = True

    def _give_up(self, request: Message, why: str) -> None:
        log.warning("gave up a %s: %s", request.metadata.message_type[:40], why)
        self._gate.abandon(request, why)

    def _answer(self, request: Message, end: float) -> tuple[Message | None, Admitted | None]:
        """What may leave, and what it answers: None where nobody waits, or nothing was let in."""
        try:
            settings = self._folder.settings()
        except ConfigError as e:
            return self._refuse_unset(request, e), None
        try:
            admitted = self._gate.admit(request, settings.policy)
        except (RefusedError, WireError) as e:
            self._tell_pending()
            return self._gate.refuse(request, str(e)), None
        reply = self._work(admitted, settings, end)
        if reply is None:
            return None, admitted
        return self._judged(admitted, partial(self._gate.release, admitted, reply)), admitted

    def _judged(self, admitted: Admitted, judge: Callable[[Policy], Message]) -> Message:
        """By the settings of now: they may have changed while it was worked on, or under way."""
        try:
            policy = self._folder.settings().policy
        except ConfigError as e:
            return self._refuse_unset(admitted.request, e)
        return judge(policy)

    def _refuse_unset(self, request: Message, e: ConfigError) -> Message:
        log.error("%s", e)
        return self._gate.refuse(request, "this site's settings cannot be read; its own log says why")

    def _work(self, admitted: Admitted, settings: Hospital, end: float) -> Message | None:
        """The ClientApp's reply from the worker; None if nobody waits for it any more."""
        request = admitted.request
        worker = self._worker_for(admitted, settings)
        worker.give(request.metadata.message_id, request)
        while True:
            replies = worker.take(timeout=0.02)
            if replies:
                self._curves.put(settings.curves, request, replies[0])
                return replies[0]
            why = self._in_vain(request, end)
            if why:
                self._stop_worker()
                self._give_up(request, why)
                return None

    def _in_vain(self, request: Message, end: float) -> str | None:
        if self.ended.is_set():
            return "the service ends"
        if self._link.lost.is_set() or self._link.node != request.metadata.dst_node_id:
            return "the server has forgotten this session"
        return "the round's deadline is over" if time.monotonic() > end else None

    def _worker_for(self, admitted: Admitted, settings: Hospital) -> Worker:
        """The warm worker, or a new one if the plan, the settings or the session changed, or it died."""
        sha256 = admitted.plan.sha256
        config = SiteConfig(
            site=self._site,
            cohorts=(self._folder.cohort(admitted.plan),),
            plan=Approvals(self._folder.plans).plan_file(sha256),
            device=settings.device,
            min_patients=settings.policy.min_patients,
            ledger=self._folder.ledger,
            memory=self._folder.memory(sha256),
            alone=self._folder.alone(admitted.plan) if admitted.plan.evaluation.alone else None,
            pretrained=self._folder.pretrained(admitted.plan),
            identity=self._folder.identity if admitted.plan.aggregation.secure else None,
            peers=self._folder.peers if admitted.plan.aggregation.secure else None,
            budget=Budget(settings.policy.epsilon, settings.policy.delta),
        )
        wanted = (self._link.node, settings.threads, config)
        if self._worker is None or self._worker_is != wanted or not self._worker.alive:
            self._stop_worker()
            self._worker, self._worker_is = (
                Worker(self._app, {self._link.node: config.to_node()}, settings.threads),
                wanted,
            )
        return self._worker

    def _stop_worker(self) -> None:
        if self._worker is not None:
            self._worker.stop()
            self._worker = None


def serve(path: Path) -> None:
    """`pneumofed client up`: serve the site in `path` until SIGTERM or SIGINT.

    Raises:
        ConfigError: the folder is not a site's, or a key or certificate is missing, wrong, or readable by
        others.
        RunError: an agent runs in it already, a port is taken, or Flower is not the version that this was
        made for.
    """
    folder = SiteFolder(path)
    settings = folder.settings()
    require_flower()
    give_memory_back()
    if not folder.certificate.is_file():
        raise ConfigError(
            f"{folder.certificate}: not there yet; bring the coordinator's answer in with: pneumofed client "
            "join FILE"
        )
    tls = client_tls(folder.ca, folder.certificate, folder.key)
    with held(folder.lock, f"{path}: an agent is running in it already"):
        set_up_logs(folder.logs, "agent")
        monitoring = Monitoring("pneumofed.client", settings.health_port, settings.metrics_port)
        link = FleetLink(settings.server, tls, read_key(folder.key), settings.proxy, folder.node)
        clear_pieces(folder)
        agent = Agent(folder, link, monitoring)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: agent.ended.set())
        log.info("serving for %s, pneumofed %s", settings.server, program())
        agent.run()
        monitoring.close()
