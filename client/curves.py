"""A site's own training on boards for its people (common/boards.py): what the worker tells, before the egress
check takes what may not leave."""

import contextlib
import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

from flwr.app import Message, MessageType

from common import wire
from common.boards import Board, Kind, open_boards
from common.errors import PneumofedError

log = logging.getLogger("pneumofed.agent")
SHOWN = {MessageType.TRAIN: "train", MessageType.EVALUATE: "validation"}


class OwnCurves:
    """The boards of the run that a site works on. Boards that cannot be opened cost no round: it is said
    once, and none is shown any more until the agent starts again."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._of, self._broken = folder, "", False
        self._boards: Sequence[Board] = ()
        self._open = contextlib.ExitStack()

    def put(self, kinds: Sequence[Kind], request: Message, reply: Message) -> None:
        """The numbers of a reply, if it has any."""
        kind = SHOWN.get(request.metadata.message_type)
        if not kinds or kind is None or self._broken or reply.has_error():
            return
        try:
            number = wire.get_round(request.content)
            self._follow(kinds, wire.get_text(request.content, wire.RUN), number)
        except Exception as e:  # an extra that is missing, a full disk, a library's own troubles
            self._broken = True
            why = e if isinstance(e, PneumofedError) else type(e).__name__
            log.error("curves are not written: %s", why)
            return
        told = reply.content.metric_records[wire.METRICS]
        numbers = {f"{kind}/{name}": float(v) for name, v in told.items() if isinstance(v, (int, float))}
        for board in self._boards:
            board.put(numbers, number)

    def close(self) -> None:
        """End the boards that are open."""
        self._open.close()

    def _follow(self, kinds: Sequence[Kind], run: str, number: int) -> None:
        if run != self._of:
            self.close()
            name = hashlib.sha256(run.encode()).hexdigest()[:12]  # what a server calls it is no path of ours
            boards = open_boards(kinds, self._folder, name, {}, number - 1)
            self._boards, self._of = self._open.enter_context(boards), run
