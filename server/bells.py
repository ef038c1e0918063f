"""A site asks once and hears when there is a message for it: it need not ask again and again."""

import asyncio
import threading
from collections import defaultdict


class Bells:
    """One for each node. Rung by the thread of a run, waited for in the server's event loop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rung: set[int] = set()
        self._waiting: defaultdict[int, set[asyncio.Future[None]]] = defaultdict(set)

    def ring(self, node: int) -> None:
        """There is a message for `node`. Where nobody waits, the next one does not have to."""
        with self._lock:
            self._rung.add(node)
            for future in self._waiting.pop(node, ()):
                future.get_loop().call_soon_threadsafe(_wake, future)

    async def wait(self, node: int, seconds: float) -> None:
        """Return when it rings, at once if it has since the last one waited, or when `seconds` are over."""
        with self._lock:
            future = asyncio.get_running_loop().create_future()
            if node not in self._rung:
                self._waiting[node].add(future)
            else:
                future.set_result(None)
        try:
            await asyncio.wait({future}, timeout=seconds)  # wait_for may swallow that the waiter went away
            with self._lock:
                self._rung.discard(node)  # one who went away leaves it to the next
        finally:
            with self._lock:
                self._waiting[node].discard(future)
                if not self._waiting[node]:
                    del self._waiting[node]


def _wake(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
