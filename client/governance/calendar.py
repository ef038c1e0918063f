"""What a server has asked under a plan and been told, on the disk before an answer leaves: `runs.json`.

A run goes forward only. Each kind of answer has its place in the plan's calendar and is given there once.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from common.errors import RefusedError
from common.files import write_atomically


@dataclass(frozen=True)
class RunRecord:
    """How far one run has come at this site."""

    round: int = 0
    """The last round that was trained, from 1."""
    request: str = ""
    """Hash of the weights that it was trained from."""


class Calendar:
    """The record of one plan's runs. Every question is answered from the disk."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "runs.json"

    def runs(self) -> dict[str, RunRecord]:
        """Run -> how far it has come. Raises RefusedError if the record cannot be read."""
        if not self._file.exists():
            return {}
        try:
            records = json.loads(self._file.read_text(encoding="utf-8"))
            return {run: RunRecord(**record) for run, record in records.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            raise RefusedError("this site's record of past rounds cannot be read") from None

    def begin(self, run: str) -> None:
        """Note a run that was not known."""
        self._write({**self.runs(), run: RunRecord()})

    def train(self, run: str, number: int, request: str) -> None:
        """Note that round `number` of `run` is trained from weights with the hash `request`.

        A server that comes back after a crash asks for the last round again, with the same weights: that is
        answered.

        Raises:
            RefusedError: an earlier round, or the same one from other weights.
        """
        last = self.runs()[run]
        if number < last.round or (number == last.round and request != last.request):
            raise RefusedError(
                f"round {number} was trained already at this site, which is at round {last.round}"
            )
        self._note(run, replace(last, round=number, request=request))

    def _note(self, run: str, record: RunRecord) -> None:
        self._write({**self.runs(), run: record})

    def _write(self, runs: Mapping[str, RunRecord]) -> None:
        text = json.dumps({run: asdict(record) for run, record in runs.items()}, indent=2) + "\n"
        write_atomically(self._file, text.encode())
