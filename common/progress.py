"""How far a long command is: a bar with the time that is left on a terminal, elsewhere a line now and then.

Whoever works through a list says so by `follow`; who watches is decided once, by the command (`reporting`).
Nobody watches otherwise.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

EVERY_S = 10.0
"""Between two lines where there is no terminal."""
T = TypeVar("T")


class _Watcher:
    def __init__(self, console: Console) -> None:
        self._console = console

    def follow(self, items: Iterable[T], what: str, total: int | None) -> Iterator[T]:
        if self._console.is_terminal:
            yield from self._with_bar(items, what, total)
        else:
            yield from self._in_lines(items, what, total)

    def _with_bar(self, items: Iterable[T], what: str, total: int | None) -> Iterator[T]:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self._console, transient=True) as bar:
            yield from bar.track(items, total=total, description=what)

    def _in_lines(self, items: Iterable[T], what: str, total: int | None) -> Iterator[T]:
        began = said = time.monotonic()
        for done, item in enumerate(items):
            now = time.monotonic()
            if now - said >= EVERY_S:
                said = now
                self._console.print(f"{what}: {_how_far(done, total, now - began)}", highlight=False)
            yield item


def _how_far(done: int, total: int | None, seconds: float) -> str:
    """120 of 2,000, about 3 min left."""
    if total is None:
        return f"{done:,}"
    left = seconds / done * (total - done) if done else None
    if left is None:
        return f"{done:,} of {total:,}"
    return (
        f"{done:,} of {total:,}, about "
        + (f"{left:.0f} s" if left < 120 else f"{left / 60:.0f} min")
        + " left"
    )


_watcher: ContextVar[_Watcher | None] = ContextVar("watcher", default=None)


def follow(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """The items, while somebody may see how many of `total` were taken."""
    watcher = _watcher.get()
    yield from items if watcher is None else watcher.follow(items, what, total)


@contextmanager
def reporting() -> Iterator[None]:
    """Show on standard error how far the work inside is."""
    before = _watcher.set(_Watcher(Console(stderr=True)))
    try:
        yield
    finally:
        _watcher.reset(before)
