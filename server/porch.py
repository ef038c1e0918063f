"""The listening socket: strangers, whose TLS handshake is not finished, are few and do not stay long.

Without it a thousand silent connections take every descriptor of the server, and no hospital gets in.
"""

import asyncio
import resource
import socket
import time
from dataclasses import dataclass

HANDSHAKE_S = 10.0
PER_ADDRESS, IN_ALL = 64, 256
"""Strangers at a time. One more ends the one that has been silent for longest: who means well is quick."""
YOUNG_S = 5.0
"""For so long a stranger keeps its place against others from its address, who are sent away instead: of three
hundred sites that came at once behind one address, all made room for each other, and none got in."""
WANTED_DESCRIPTORS = 8192


@dataclass(frozen=True)
class _Stranger:
    connection: socket.socket
    address: str
    since: float


class Porch(socket.socket):
    """Accepts for asyncio, which knows nothing of a connection before its handshake is done."""

    @classmethod
    def listen_at(cls, host: str, port: int) -> "Porch":
        """Raises OSError if the address cannot be used."""
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        porch = cls(family, kind, protocol)
        porch.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            porch.bind(address)
        except OSError:
            porch.close()
            raise
        porch._strangers = {}
        return porch

    _strangers: dict[int, _Stranger]

    def accept(self) -> tuple[socket.socket, tuple[str, int]]:
        """As a socket's; raises BlockingIOError when nobody waits, or who came was sent away."""
        connection, address = super().accept()
        here = _Stranger(connection, address[0], time.monotonic())
        if not self._make_room(here):
            connection.close()
            raise BlockingIOError
        self._strangers[connection.fileno()] = here
        asyncio.get_running_loop().call_later(HANDSHAKE_S, self._end, connection.fileno(), here)
        return connection, address

    def know(self, descriptor: int) -> bool:
        """The connection's handshake is done: it counts no more. False if it was ended before: what came
        until then can still be read, and would be worked on for nobody."""
        return self._strangers.pop(descriptor, None) is not None

    def _make_room(self, here: _Stranger) -> bool:
        """Whether there is a place for `here`."""
        for number, stranger in list(self._strangers.items()):
            if stranger.connection.fileno() != number:  # closed since
                del self._strangers[number]
        same = [n for n, stranger in self._strangers.items() if stranger.address == here.address]
        if len(same) >= PER_ADDRESS:
            if here.since - self._strangers[same[0]].since < YOUNG_S:
                return False
            self._end(same[0], self._strangers[same[0]])
        elif len(self._strangers) >= IN_ALL:
            oldest = next(iter(self._strangers))
            self._end(oldest, self._strangers[oldest])
        return True

    def _end(self, descriptor: int, stranger: _Stranger) -> None:
        if self._strangers.get(descriptor) is not stranger:
            return
        del self._strangers[descriptor]
        try:
            stranger.connection.shutdown(socket.SHUT_RDWR)  # asyncio, whose it is, closes it then
        except OSError:
            return  # it is gone


def raise_descriptors() -> None:
    """As many open files as the administrator allows, up to what a federation needs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(hard, WANTED_DESCRIPTORS) if hard != resource.RLIM_INFINITY else WANTED_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
