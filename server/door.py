"""Who gets in, how large a request may be, and how long it may take: decided before Flower sees any of it."""

import asyncio
import binascii
import logging
import math
import time
from base64 import b64decode
from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field
from typing import Protocol, cast

from cryptography import x509
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from common import protocol
from common.credentials import public_pem, sha256_fingerprint
from common.logs import Sparing
from common.protocol import FLEET, WAIT_HEADER
from common.trust import PATH as TRUST_PATH
from common.waiting import PATH as WAITING_PATH
from server.calls import CALLS
from server.porch import Porch

log = logging.getLogger("pneumofed.server")
refusals = Sparing(log)

MAX_HEAD_BYTES = 16 * 2**10
MAX_BODY_BYTES = {f"{FLEET}/{name}": call.most_bytes for name, call in CALLS.items()} | {
    TRUST_PATH: 0,
    WAITING_PATH: 0,
}
"""What a site may call, and the most bytes of its request."""
PULL = f"{FLEET}/pull-messages"
MOST_WAIT_S = 10.0
HEAD_S = 10.0
BODY_S, SLOWEST_BYTES_S = 20.0, 20_000.0
"""A body may take BODY_S, and a second more for each SLOWEST_BYTES_S; each part of an answer BODY_S."""
AT_ONCE = 4  # bodies of one site that are read or worked on; more wait
CONNECTIONS = 32  # of one certificate
INSTANCE = "pneumofed-instance"  # the header in which an agent tells its machine and folder, as a hash
START = "pneumofed-start"  # and a number that it drew when it started
MAX_START, MOST_STARTS, RETURNS = 64, 16, 4
MOVES_IN_S = 50.0  # without a word from the machine before, a site may speak from another


@dataclass
class Starts:
    """The agents that speak with one site's keys, by the number that each drew when it started."""

    last: str = ""
    heard: dict[str, tuple[float, float]] = field(default_factory=dict)  # first and last time
    returns: deque[float] = field(default_factory=lambda: deque(maxlen=RETURNS))
    """When one spoke again after another had."""

    def intrudes(self, start: str, now: float) -> bool:
        """Whether this one speaks by turns with another that was here before it. One that was restarted is
        never heard again; one whose machine was cloned is."""
        if start != self.last and start in self.heard:
            self.returns.append(now)
        first, _ = self.heard.get(start, (now, now))
        heard = {one: times for one, times in self.heard.items() if now - times[1] < MOVES_IN_S}
        self.heard = dict(sorted(heard.items(), key=lambda one: one[1][1])[-MOST_STARTS:])
        self.heard[start], self.last = (first, now), start
        turns = len(self.returns) == RETURNS and now - self.returns[0] < MOVES_IN_S
        return turns and first > min(times[0] for times in self.heard.values())


class Judge(Protocol):
    """What the door asks the service."""

    def let_in(self, certificate_key: str, node_key: str) -> str | None: ...

    def owner_of(self, certificate_key: str) -> str | None: ...

    def trust_answer(self, site: str, fingerprint: str) -> dict[str, object]: ...

    def waiting_answer(self, site: str) -> list[dict[str, str]]: ...

    async def message_for(self, certificate_key: str, seconds: float) -> None: ...


class Door:
    """Lets a request in only from an admitted site; ends it before Flower sees it otherwise."""

    def __init__(self, app: ASGIApp, judge: Judge) -> None:
        self._app, self._judge = app, judge
        self.porch: Porch
        """Set before the server listens."""
        self.connections: Counter[str] = Counter()
        """Open connections by their certificate's key."""
        self._instances: dict[str, tuple[str, float]] = {}  # site -> the machine that spoke for it, when
        self._starts: defaultdict[str, Starts] = defaultdict(Starts)
        self._versions: dict[str, tuple[str, float]] = {}  # site -> its program's, when it was noted
        self._places: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(AT_ONCE))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        key, length = scope.get("peer_key", ""), headers.get("content-length", "")
        site = self._judge.let_in(key, _node_key(headers))
        if site is None:
            owner = self._judge.owner_of(key)
            odd = (
                "its node key is not its certificate's" if owner else "its certificate is no admitted site's"
            )
            refusals.warning(odd, about=owner or scope.get("peer_fingerprint", ""))
            await _refuse(401, "not admitted")(scope, receive, send)
        elif (most := MAX_BODY_BYTES.get(scope["path"])) is None:
            await _refuse(404, "no such call")(scope, receive, send)
        elif not length.isdecimal() or len(length) > 12 or int(length) > most:
            await _refuse(413, "request too large")(scope, receive, send)
        elif (why := protocol.objection(headers, site, "the server")) is not None:
            refusals.warning(why, about=site, kind="protocol")
            await _refuse(426, why)(scope, receive, send)
        elif self._elsewhere(site, headers.get(INSTANCE, "")):
            refusals.warning("two machines use its keys; was the site's folder copied?", about=site)
            await _refuse(409, "another machine uses this site's keys")(scope, receive, send)
        elif (start := headers.get(START, "")[:MAX_START]) and self._starts[site].intrudes(
            start, time.monotonic()
        ):
            refusals.warning("two agents use its keys at once; was its machine cloned?", about=site)
            await _refuse(409, "another agent uses this site's keys")(scope, receive, send)
        else:
            async with self._places[site]:
                try:
                    await self._answer({**scope, "site": site}, headers, receive, _in_time(send))
                except NotTakenError:  # uvicorn ends the connection, as the answer is not complete
                    refusals.warning("did not take its answer", about=site)

    async def _answer(self, scope: Scope, headers: dict[str, str], receive: Receive, send: Send) -> None:
        site = scope["site"]
        if scope["path"] == TRUST_PATH:
            trust = self._judge.trust_answer(site, scope.get("peer_fingerprint", ""))
            self._note_version(site, protocol.version_of(headers))
            await JSONResponse(trust, headers=protocol.headers())(scope, receive, send)
        elif scope["path"] == WAITING_PATH:
            waiting = await asyncio.to_thread(self._judge.waiting_answer, site)
            await JSONResponse(waiting, headers=protocol.headers())(scope, receive, send)
        else:
            wait_s = _seconds(headers.get(WAIT_HEADER, "")) if scope["path"] == PULL else 0.0
            await self._pass_on(scope, receive, send, int(headers["content-length"]), wait_s)

    def _elsewhere(self, site: str, instance: str) -> bool:
        """Whether another machine spoke for the site a moment ago. An agent of before says nothing of its
        machine, and is not asked: a copied folder is a mistake, not an attack."""
        if not instance:
            return False
        last, now = self._instances.get(site), time.monotonic()
        if last is not None and last[0] != instance and now - last[1] < MOVES_IN_S:
            return True
        self._instances[site] = (instance, now)
        return False

    def _note_version(self, site: str, version: str) -> None:
        before, noted = self._versions.get(site, ("", -math.inf))
        if before != version and time.monotonic() - noted > Sparing.PAUSE_S:
            self._versions[site] = (version, time.monotonic())
            log.info("%s runs pneumofed %s", site, version)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send, length: int, wait_s: float) -> None:
        try:
            async with asyncio.timeout(BODY_S + length / SLOWEST_BYTES_S):
                body = await _read(receive)
        except TimeoutError:
            await _refuse(408, "the request took too long")(scope, receive, send)
            return
        key = scope["peer_key"]
        if body is None or (wait_s > 0.0 and not await self._waited(key, receive, wait_s)):
            return
        if wait_s > 0.0 and self._judge.let_in(key, key) is None:  # it was revoked meanwhile
            await _refuse(401, "not admitted")(scope, receive, send)
        else:
            again = _replay(body, receive)
            del body  # the one that is replayed is let go when it was read
            await self._app(scope, again, send)

    async def _waited(self, key: str, receive: Receive, seconds: float) -> bool:
        """Wait with a site for a message; whether it is still here to get one."""
        message = asyncio.ensure_future(self._judge.message_for(key, seconds))
        gone = asyncio.ensure_future(receive())  # after the body nothing comes but the end of the connection
        await asyncio.wait({message, gone}, return_when=asyncio.FIRST_COMPLETED)
        here = not gone.done()
        for one in (message, gone):
            one.cancel()
        return here


class NotTakenError(Exception):
    """A site does not take its answer."""


def _in_time(send: Send) -> Send:
    """A part of an answer is taken within BODY_S, or raises NotTakenError: a site whose network broke would
    keep its places until TCP notices."""

    async def timely(message: Message) -> None:
        try:
            async with asyncio.timeout(BODY_S):
                await send(message)
        except TimeoutError:
            raise NotTakenError from None

    return timely


def _seconds(text: str) -> float:
    return min(float(text), MOST_WAIT_S) if text.isascii() and text.isdecimal() and len(text) < 6 else 0.0


def _node_key(headers: dict[str, str]) -> str:
    try:
        return b64decode(headers.get(FLEET_HTTP_PUBLIC_KEY_HEADER.lower(), ""), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return ""


def _refuse(status: int, why: str) -> Response:
    """Ends the connection too: whoever is refused pays for the next handshake."""
    return PlainTextResponse(why, status, headers={"connection": "close"})


async def _read(receive: Receive) -> bytes | None:
    """The whole body, whose length uvicorn holds to what was stated; None if the site went away."""
    parts, more = [], True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    left = [body]

    async def again() -> Message:
        return {"type": "http.request", "body": left.pop()} if left else await receive()

    return again


class KnowsPeer(HttpToolsProtocol):
    """uvicorn's HTTP, with the key of the client's certificate in the scope as `peer_key` (PEM).

    The head of a request is bounded in bytes and time, the connections of a certificate in number. A second
    request waits for the answer to the first at its site, not here: it would keep a place that nobody sees.
    """

    _door: Door
    _key = ""
    _late: asyncio.TimerHandle | None = None
    """Ends the connection if the head that is on its way does not come; None while there is none."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        self._door = cast(Door, self.app)
        if not self._door.porch.know(transport.get_extra_info("socket").fileno()):
            transport.abort()
        der = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
        certificate, app = x509.load_der_x509_certificate(der), self.app
        self._key = public_pem(certificate.public_key()).decode()
        peer = {"peer_key": self._key, "peer_fingerprint": sha256_fingerprint(certificate)}
        self._expect_head()
        self._door.connections[self._key] += 1
        if self._door.connections[self._key] > CONNECTIONS:
            refusals.warning("ended a connection: too many at once", about=peer["peer_fingerprint"])
            transport.abort()

        async def with_peer(scope: Scope, receive: Receive, send: Send) -> None:
            await app({**scope, **peer}, receive, send)

        self.app = with_peer

    def connection_lost(self, exc: Exception | None) -> None:
        self._have_head()
        self._door.connections[self._key] -= 1
        if self._door.connections[self._key] <= 0:
            del self._door.connections[self._key]
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._late is not None:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self.transport.abort()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._expect_head()

    def on_headers_complete(self) -> None:
        self._have_head()
        if self.cycle is None or self.cycle.response_complete:
            super().on_headers_complete()
            return
        self.cycle.disconnected = True
        self.cycle.message_event.set()
        self.transport.abort()

    def _expect_head(self) -> None:
        if self._late is None:
            self._head_bytes = 0
            self._late = asyncio.get_running_loop().call_later(HEAD_S, self.transport.abort)

    def _have_head(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
