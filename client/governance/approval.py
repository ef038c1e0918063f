"""Nothing trains without a person's approval: the plans that a server proposed, what was decided, and what
ran under them.

Each plan has a folder named by its SHA-256: `plan.yaml`, `decision.json` (written by the commands) and
`runs.json` (written by the agent). An approval is for one run; approving again allows one more.
"""

import datetime
import getpass
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import JsonValue, TypeAdapter, ValidationError

from client.governance.calendar import Calendar
from common.config import dump_yaml, load_yaml, validate
from common.errors import ConfigError, RefusedError
from common.files import changing, listed, write_atomically
from common.plan import Plan
from common.plan.difference import diff_plans
from common.text import cannot_be_read, printable
from common.wire import Schema

ASKED = "asked"  # file with the run that was asked for and not allowed, last
SHORTEST = 4  # digits of a hash that mean a plan
MAX_UNDECIDED = 20  # a server must not fill the disk with proposals


@dataclass(frozen=True)
class Decision:
    """What somebody at the hospital decided about a plan."""

    approved: bool
    by: str
    at: str
    runs: int
    """How many runs of the plan are allowed in all."""
    shapes: dict[str, list[int]]
    """Tensor -> shape, as worked out from the plan at the approval: what may leave under it."""
    until: str = ""
    """The last day on which it holds, as in 2027-01-31; empty: for ever."""


_DECISION = TypeAdapter(Decision)


class Approvals:
    """The plans of one site. Every question is answered from the disk: a decision works at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def propose(self, plan: dict[str, JsonValue], sha256: str) -> None:
        """Keep a plan that the server showed, for somebody to look at.

        Raises:
            RefusedError: it is not a plan of this version, has another hash than claimed, or too many wait
            already.
        """
        if (self._folder / sha256).is_dir():
            return
        try:
            proposed = validate(plan, Plan, "the plan")
        except ConfigError as e:
            raise RefusedError(f"{str(e)[:300]}; is the server's pneumofed of another version?") from None
        if proposed.sha256 != sha256:
            raise RefusedError(f"the plan sent has the hash {proposed.sha256[:12]}, claimed is {sha256[:12]}")
        if sum(self.decision(known) is None for known in self.known()) >= MAX_UNDECIDED:
            raise RefusedError(f"{MAX_UNDECIDED} plans wait for a decision at this site already")
        write_atomically(self._folder / sha256 / "plan.yaml", dump_yaml(proposed).encode())

    def plan(self, sha256: str) -> Plan:
        """The plan as it lies on the disk.

        Raises:
            ConfigError: it was changed after it was proposed.
        """
        path = self.plan_file(sha256)
        plan = load_yaml(path, Plan)
        if plan.sha256 != sha256:
            raise ConfigError(f"{path}: was changed: its hash is {plan.sha256[:12]}, expected {sha256[:12]}")
        return plan

    def plan_file(self, sha256: str) -> Path:
        return self._folder / sha256 / "plan.yaml"

    def decision(self, sha256: str) -> Decision | None:
        """What was decided, or None. One that cannot be read, or that is no decision, counts as none: nothing
        trains."""
        try:
            return self._read(sha256)
        except (OSError, ValidationError):
            return None

    def _read(self, sha256: str) -> Decision:
        """Raises OSError, ValidationError."""
        return _DECISION.validate_json(self._decision_file(sha256).read_bytes(), strict=True)

    def unread(self, sha256: str) -> str | None:
        """Why what was decided cannot be read, as where another account wrote it; None if it can, or if
        nothing was decided."""
        file = self._decision_file(sha256)
        try:
            self._read(sha256)
        except FileNotFoundError:
            return None
        except OSError as e:
            return cannot_be_read(file, e)
        except ValidationError:
            return f"{file}: is no decision; decide again about plan {sha256[:12]}"
        return None

    def require(self, sha256: str) -> Plan:
        """The approved plan. Raises RefusedError if it is unknown, undecided, denied, or changed since."""
        if not self.plan_file(sha256).is_file():
            raise RefusedError(f"plan {sha256[:12]} was never shown to this site")
        decision = self.decision(sha256)
        if decision is None:
            raise RefusedError(f"plan {sha256[:12]} awaits approval at this site")
        if not decision.approved:
            raise RefusedError(f"plan {sha256[:12]} was denied by this site")
        if decision.until and datetime.date.today().isoformat() > decision.until:
            raise RefusedError(f"plan {sha256[:12]} was approved until {decision.until}: approve it again")
        try:
            return self.plan(sha256)
        except ConfigError:
            raise RefusedError(f"plan {sha256[:12]} was changed at this site after its approval") from None

    def calendar(self, sha256: str) -> Calendar:
        """What the server has asked and been told under a plan."""
        return Calendar(self._folder / sha256)

    def require_run(self, sha256: str, run: str, *, begins: bool) -> None:
        """Count `run` as one of those allowed if it `begins`. Raises RefusedError if the approval is used
        up."""
        decision, calendar = self.decision(sha256), self.calendar(sha256)
        allowed, runs = decision.runs if decision else 0, calendar.runs()
        if run in runs:
            return
        if len(runs) >= allowed:
            self._note_asked(sha256, run)
            raise RefusedError(
                f"plan {sha256[:12]} was approved for {allowed} run(s), this is another one: approve it again"
            )
        if begins:
            calendar.begin(run)

    def _note_asked(self, sha256: str, run: str) -> None:
        if self._asked(sha256) != run:
            write_atomically(self._folder / sha256 / ASKED, run.encode())

    def _asked(self, sha256: str) -> str | None:
        """The run that was asked for and not allowed, last."""
        try:
            return (self._folder / sha256 / ASKED).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None

    def pending(self) -> list[str]:
        """Hashes of the plans that nobody has decided about, or of which a further run was asked for."""
        return [
            sha256 for sha256 in self.known() if self.decision(sha256) is None or self.awaits_again(sha256)
        ]

    def awaits_again(self, sha256: str) -> bool:
        """Whether the server asked for a run beyond those that were approved, and none was allowed since. Not
        of a plan whose record cannot be read, of which nobody could allow one more: others are judged."""
        decision, asked = self.decision(sha256), self._asked(sha256)
        if decision is None or not decision.approved or asked is None:
            return False
        try:
            runs = self.calendar(sha256).runs()
        except RefusedError:
            return False
        return len(runs) >= decision.runs and asked not in runs

    def known(self) -> list[str]:
        """Hashes of all plans that were ever shown, oldest first. Raises OSError."""
        plans = [plan for folder in listed(self._folder) if (plan := folder / "plan.yaml").is_file()]
        return [p.parent.name for p in sorted(plans, key=lambda p: (p.stat().st_mtime_ns, p.parent.name))]

    def find(self, start: str) -> str:
        """The one known plan whose hash begins with `start`. Raises ConfigError if there is none, or several,
        or if it is too short to be meant."""
        if len(start) < SHORTEST:
            raise ConfigError(
                f"found {printable(start)!r} for a plan, expected {SHORTEST} or more digits of its hash: "
                "pneumofed client pending"
            )
        matches = [sha256 for sha256 in self.known() if sha256.startswith(start)]
        if len(matches) != 1:
            known = (
                ", ".join(s[:12] for s in self.known()) or "none; they come when the coordinator starts a run"
            )
            problem = "several plans begin so" if matches else "no such plan"
            raise ConfigError(f"{printable(start, 64)}: {problem}; known are: {known}")
        return matches[0]

    def approve(self, sha256: str, runs: int = 1, until: datetime.date | None = None) -> Decision:
        """Allow `runs` runs, or as many more, to the end of the day `until`; without one, to that of before.
        What an approval that has ended still allowed is over: the new one counts from the runs that began.

        Raises:
            ConfigError: `until` is over.
            RefusedError: an approval has ended, and which runs began under it cannot be read.
        """
        from common.models import build_model  # takes seconds: the agent, which only asks, goes without

        plan = self.plan(sha256)
        shapes = {
            name: list(shape) for name, shape in Schema.exchanged(plan, build_model(plan)).shapes.items()
        }
        today = datetime.date.today().isoformat()
        if until and until.isoformat() < today:
            raise ConfigError(f"found the last day {until.isoformat()}, today is {today}: give a later one")
        with changing(self._decision_file(sha256)):
            before = self.decision(sha256)
            ended = before is not None and "" < before.until < today
            counted = len(self.calendar(sha256).runs()) if ended else before.runs if before else 0
            last = until.isoformat() if until else before.until if before and not ended else ""
            return self._decide(sha256, Decision(True, _user(), _now(), counted + runs, shapes, last))

    def deny(self, sha256: str) -> Decision:
        """Refuse a plan, or take every approval of it back."""
        with changing(self._decision_file(sha256)):
            return self._decide(sha256, Decision(False, _user(), _now(), 0, {}))

    def schema(self, sha256: str) -> Schema:
        """The tensors of an approved plan's model."""
        decision = self.decision(sha256)
        assert decision is not None
        return Schema({name: tuple(shape) for name, shape in decision.shapes.items()})

    def tensor_bytes(self) -> int:
        """Bytes of the largest approved plan's tensors: no request needs more."""
        approved = [s for s in self.known() if (d := self.decision(s)) is not None and d.approved]
        return max((self.schema(sha256).packed_bytes for sha256 in approved), default=0)

    def _decide(self, sha256: str, decision: Decision) -> Decision:
        text = json.dumps(asdict(decision), indent=2) + "\n"
        write_atomically(self._decision_file(sha256), text.encode())
        return decision

    def _decision_file(self, sha256: str) -> Path:
        return self._folder / sha256 / "decision.json"

    def compare(self, sha256: str) -> tuple[str | None, list[str]]:
        """Hash of the plan that was approved last before this one (None if none was), and what changed
        since."""
        others = [
            (d.at, s)
            for s in self.known()
            if s != sha256 and (d := self.decision(s)) is not None and d.approved
        ]
        if not others:
            return None, []
        last = max(others)[1]
        return last, diff_plans(self.plan(last), self.plan(sha256))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return f"user {os.getuid()}"


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")
