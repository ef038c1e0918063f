"""What a server has asked under a plan and been told, on the disk before an answer leaves: `runs.json` and
`greeting.json`.

A run goes forward only. Each kind of answer has its place in the plan's calendar and is given there once.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

from common.errors import RefusedError
from common.files import write_atomically

Numbers: TypeAlias = Mapping[str, int | float]


@dataclass(frozen=True)
class RunRecord:
    """How far one run has come at this site."""

    round: int = 0
    """The last round that was trained, from 1."""
    request: str = ""
    """Hash of the weights that it was trained from."""
    cohort: str = ""
    """Of what left as its update: the identity of the cohort; empty until it leaves."""
    approved: str = ""
    """When the plan had been approved then."""
    evaluated: int = 0
    """The last round that was evaluated."""
    shown: str = ""
    """Hash of the weights that were evaluated then."""
    told: Mapping[str, float | None] = field(default_factory=dict)
    """What was answered then; empty until it leaves."""
    final: str = ""
    """Hash of the weights that were judged at the end."""
    told_finally: str = ""
    """What was answered then, JSON; empty until it leaves."""
    handed: str = ""
    """Hash of the model of the site's own that left."""
    judged: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    """Hash of another site's model -> what was answered; empty until it leaves."""
    seen: Mapping[str, str] = field(default_factory=dict)
    """Round -> hash of the weights that were evaluated after it; of plans that hand over the best round's."""
    repeated: bool = False
    """Whether the server came back after that evaluation and asked for the same round's training again."""


class Calendar:
    """The record of one plan's runs. Every question is answered from the disk."""

    def __init__(self, folder: Path) -> None:
        self._file, self._greeting = folder / "runs.json", folder / "greeting.json"

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

    def prepare(self, run: str, number: int) -> None:
        """Raises RefusedError if round `number`, for which a stage of secure aggregation is asked, is
        over."""
        if number < (last := self.runs()[run]).round:
            raise RefusedError(f"round {number} is over at this site, which is at round {last.round}")

    def train(self, run: str, number: int, request: str, cohort: str = "", approved: str = "") -> None:
        """Note that round `number` of `run` is trained from weights with the hash `request`, on the `cohort`,
        under what is `approved` now.

        A server that comes back after a crash asks for the last round again, with the same weights: that is
        answered.

        Raises:
            RefusedError: an earlier round, the same one from other weights, or the next one from other
            weights than were evaluated before it; or the same one on another cohort, unless a person approved
            again: two answers would differ by the patients that the cohorts do.
        """
        last = self.runs()[run]
        if number == last.round and cohort != last.cohort != "" and approved == last.approved:
            raise RefusedError(
                f"round {number} was answered before, for what this site's cohort was then; approve the plan "
                "again to answer for what it is now"
            )
        if number < last.round or (number == last.round and request != last.request):
            raise RefusedError(
                f"round {number} was trained already at this site, which is at round {last.round}"
            )
        came_back = number <= last.evaluated
        if last.shown and number == last.evaluated + 1 and request != last.shown and not last.repeated:
            raise RefusedError(
                f"round {number} would train from other weights than were evaluated after round "
                f"{last.evaluated}"
            )
        if number > last.round:
            last = replace(last, cohort="", approved="")
        self._note(run, replace(last, round=number, request=request, repeated=came_back))

    def let_go(self, run: str, number: int, cohort: str, approved: str) -> None:
        """Note that the update of round `number` leaves, of this cohort, under what was `approved` then."""
        last = self.runs()[run]
        if number == last.round:
            self._note(run, replace(last, cohort=cohort, approved=approved))

    def evaluate(self, run: str, number: int, weights: str, *, keep: bool = False) -> None:
        """Note that weights with the hash `weights` are evaluated after round `number`, once for ever; `keep`
        where they may be the run's result when later ones were evaluated.

        Raises:
            RefusedError: that round is over, or it was evaluated with other weights.
        """
        last = self.runs()[run]
        if number < max(last.round, last.evaluated):
            raise RefusedError(f"round {number} is over at this site, it is not evaluated any more")
        if number == last.evaluated and weights != last.shown:
            raise RefusedError(f"round {number} was evaluated already at this site, with other weights")
        if number > last.evaluated:
            seen = {**last.seen, str(number): weights} if keep else {}
            self._note(
                run, replace(last, evaluated=number, shown=weights, told={}, seen=seen, repeated=False)
            )

    def tell(self, run: str, number: int, numbers: Numbers) -> Numbers:
        """What leaves as the evaluation of round `number`: what was told before, or else `numbers`, noted.

        Raises:
            RefusedError: it is not the round that was evaluated last.
        """
        last = self.runs()[run]
        if number != last.evaluated:
            raise RefusedError(f"round {number} is over at this site, it is not evaluated any more")
        if not last.told:
            self._note(run, replace(last, told=_to_json(numbers)))
        return _from_json(last.told) if last.told else numbers

    def finish(self, run: str, number: int, weights: str) -> None:
        """Note that weights with the hash `weights` are judged at the run's end, after round `number`, once
        for ever.

        Raises:
            RefusedError: others were, or others were evaluated after that round.
        """
        last = self.runs()[run]
        shown = {**last.seen, str(last.evaluated): last.shown or weights}
        if weights != (last.final or shown.get(str(number), weights)):
            raise RefusedError("the final scores are asked for other weights than this site was shown")
        self._note(run, replace(last, final=weights))

    def tell_finally(self, run: str, text: str) -> str:
        """What leaves as the final answer: what was told before, or else `text`, noted."""
        last = self.runs()[run]
        if not last.told_finally:
            self._note(run, replace(last, told_finally=text))
        return last.told_finally or text

    def require_told_finally(self, run: str) -> None:
        """Raises RefusedError before the final answer: models cross after it."""
        if not self.runs()[run].told_finally:
            raise RefusedError("this site's final scores come first, models trained alone after them")

    def hand(self, run: str, model: str) -> None:
        """Note that the site's own model, with the hash `model`, leaves. Raises RefusedError if another one
        did."""
        last = self.runs()[run]
        if last.handed not in ("", model):
            raise RefusedError("another model of this site's own left before; the cohort was changed since")
        self._note(run, replace(last, handed=model))

    def judge(self, run: str, model: str, most: int) -> None:
        """Note that another site's model, with the hash `model`, is judged; of `most` different ones.

        Raises:
            RefusedError: as many others were.
        """
        last = self.runs()[run]
        if model in last.judged:
            return
        if len(last.judged) >= most:
            raise RefusedError(f"this site has judged {most} models of others, as many as the plan has")
        self._note(run, replace(last, judged={**last.judged, model: {}}))

    def tell_judged(self, run: str, model: str, numbers: Numbers) -> Numbers:
        """What leaves of another site's model: what was told before, or else `numbers`, noted."""
        last = self.runs()[run]
        if not last.judged[model]:
            self._note(run, replace(last, judged={**last.judged, model: _to_json(numbers)}))
        return _from_json(last.judged[model]) if last.judged[model] else numbers

    def greet(self, approved: str, numbers: Numbers) -> Numbers:
        """What leaves as the answer to a query: what was told since the approval of `approved` (its time), or
        else `numbers`, noted.

        Raises:
            RefusedError: the record cannot be read.
        """
        try:
            greeting = json.loads(self._greeting.read_text(encoding="utf-8"))
            if greeting["approved"] == approved:
                return _from_json(greeting["told"])
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            raise RefusedError("this site's record of its greeting cannot be read") from None
        text = json.dumps({"approved": approved, "told": _to_json(numbers)}, indent=2) + "\n"
        write_atomically(self._greeting, text.encode())
        return numbers

    def _note(self, run: str, record: RunRecord) -> None:
        self._write({**self.runs(), run: record})

    def _write(self, runs: Mapping[str, RunRecord]) -> None:
        text = json.dumps({run: asdict(record) for run, record in runs.items()}, indent=2) + "\n"
        write_atomically(self._file, text.encode())


def _to_json(numbers: Numbers) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in numbers.items()}


def _from_json(told: Mapping[str, float | None]) -> dict[str, float]:
    return {name: math.nan if value is None else value for name, value in told.items()}
