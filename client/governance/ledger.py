"""The privacy ledger: what has been spent on this site's patients, over all plans, runs, rounds and restarts.

SQLite, append-only (the database itself refuses changes), chained by hashes. *Reserve before, settle after*:
steps are written down, and on the disk, before they are trained; a crash can count too much, never too
little.

Whose budget it is follows from the patients, by pseudonym: a cohort that is ingested again, renamed, or
shares patients with another has their past.
"""

import datetime
import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import TypeAlias

from client.governance.accounting import History, epsilon
from common.errors import DataError, RefusedError
from common.plan import canonical_json

GENESIS = "0" * 64
Steps: TypeAlias = tuple[float, float, int]  # noise multiplier, sample rate, number
_REFUSE = "BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END"
_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS entries (
        n INTEGER PRIMARY KEY, time TEXT NOT NULL, kind TEXT NOT NULL CHECK (kind IN ('reserved', 'settled')),
        cohort TEXT NOT NULL, plan TEXT NOT NULL, run TEXT NOT NULL, round INTEGER NOT NULL,
        noise REAL NOT NULL, sample_rate REAL NOT NULL, steps INTEGER NOT NULL, settles INTEGER,
        previous TEXT NOT NULL, hash TEXT NOT NULL)""",
    "CREATE TABLE IF NOT EXISTS members (cohort TEXT NOT NULL, patient TEXT NOT NULL, PRIMARY KEY (cohort, "
    "patient)) WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS by_patient ON members (patient)",
    f"CREATE TRIGGER IF NOT EXISTS no_change BEFORE UPDATE ON entries {_REFUSE}",
    f"CREATE TRIGGER IF NOT EXISTS no_removal BEFORE DELETE ON entries {_REFUSE}",
    f"CREATE TRIGGER IF NOT EXISTS no_leaving BEFORE DELETE ON members {_REFUSE}",
)


@dataclass(frozen=True)
class Budget:
    """What the hospital allows for each of its patients, for ever."""

    epsilon: float
    delta: float


@dataclass(frozen=True)
class Purpose:
    """For what steps are reserved."""

    plan: str
    run: str
    round: int


@dataclass(frozen=True)
class Row:
    """One entry: steps that were reserved, or that a reservation came to (`settles`)."""

    n: int
    time: str
    kind: str
    cohort: str
    plan: str
    run: str
    round: int
    noise: float
    sample_rate: float
    steps: int
    settles: int | None
    previous: str

    @property
    def hash(self) -> str:
        """SHA-256 over all of it."""
        return hashlib.sha256(canonical_json(asdict(self)).encode()).hexdigest()


_COLUMNS = tuple(column.name for column in fields(Row))


@dataclass(frozen=True)
class RunSteps:
    """What one run has taken."""

    plan: str
    run: str
    rounds: int
    settled_steps: int
    reserved_steps: int
    """Reserved and not settled."""


@dataclass(frozen=True)
class RunCost(RunSteps):
    """And what that alone costs a patient."""

    epsilon: float


@dataclass(frozen=True)
class Summary:
    """What `pneumofed client ledger` shows."""

    epsilon_budget: float
    delta: float
    epsilon_spent: float
    """Of the patient for whom it is most."""
    epsilon_left: float
    entries: int
    runs: list[RunCost]


class Ledger:
    """One site's ledger. Every call opens the file: processes may share it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A transaction that is on the disk when the block ends, or undone. Raises DataError if the file is
        not a ledger."""
        try:
            connection = sqlite3.connect(self._path, timeout=30.0, isolation_level=None)
            try:
                connection.execute("PRAGMA synchronous = EXTRA")
                connection.execute("BEGIN IMMEDIATE")
                for statement in _SCHEMA:
                    connection.execute(statement)
                yield connection
                connection.execute("COMMIT")
            finally:
                connection.close()
        except sqlite3.OperationalError as e:
            raise OSError(
                28 if "full" in str(e) else 5, f"the ledger cannot be written ({e})", str(self._path)
            ) from None
        except sqlite3.DatabaseError:
            raise DataError(
                f"{self._path}: not a readable ledger; restore it from a copy: without it nothing trains"
            ) from None

    def reserve(
        self,
        patients: Sequence[str],
        purpose: Purpose,
        steps: Steps,
        budget: Budget | None,
    ) -> int:
        """Write steps (noise, sample rate, number) down before they are trained; returns the entry's number.

        Raises:
            RefusedError: with them, some patient's ε would exceed the budget. Nothing is written then.
            OSError: it could not be brought to the disk.
        """
        cohort = _cohort(patients)
        with self._open() as connection:
            self._verify(connection)
            known = connection.execute("SELECT 1 FROM members WHERE cohort = ? LIMIT 1", (cohort,)).fetchone()
            if known is None:
                connection.executemany(
                    "INSERT INTO members VALUES (?, ?)", [(cohort, p) for p in sorted(set(patients))]
                )
            if budget is not None:
                spent = _history(connection, cohort)
                total = epsilon([*spent, steps], budget.delta)
                if total > budget.epsilon:
                    raise RefusedError(
                        f"this site's privacy budget does not allow another {steps[2]} steps of this plan"
                    )
            return _append(connection, cohort, purpose, steps)

    def settle(self, number: int, steps_done: int) -> None:
        """Write down that a reservation's training ended after so many steps, at most those reserved."""
        with self._open() as connection:
            row = connection.execute(
                "SELECT cohort, plan, run, round, noise, sample_rate, steps FROM entries WHERE n = ? AND "
                "kind = 'reserved'",
                (number,),
            ).fetchone()
            if row is None or not 0 <= steps_done <= row[6]:
                raise DataError(f"{self._path}: entry {number} cannot be settled with {steps_done} steps")
            if connection.execute("SELECT 1 FROM entries WHERE settles = ?", (number,)).fetchone() is None:
                _append(connection, row[0], Purpose(*row[1:4]), (row[4], row[5], steps_done), number)

    def history(self) -> History:
        """All steps ever reserved or done, whoever's: an upper bound for every patient."""
        with self._open() as connection:
            return _history(connection, None)

    def histories(self, run: tuple[str, str] | None = None) -> list[History]:
        """Of each cohort the steps of all that share a patient with it; no patient has taken more than one of
        these. Of one run alone, by its plan and name, if it is given."""
        condition, values = ("AND r.plan = ? AND r.run = ?", run) if run else ("", ())
        with self._open() as connection:
            cohorts = connection.execute(
                f"SELECT DISTINCT r.cohort FROM entries r WHERE r.kind = 'reserved' {condition}",  # noqa: S608
                values,
            ).fetchall()
            return [_steps(connection, _SHARED + condition, (cohort, *values)) for (cohort,) in cohorts]

    def history_of(self, patients: Iterable[str]) -> History:
        """The steps of all cohorts that have one of these patients."""
        asked = set(patients)
        with self._open() as connection:
            members = connection.execute("SELECT cohort, patient FROM members").fetchall()
            cohorts = sorted({cohort for cohort, patient in members if patient in asked})
            return [step for c in cohorts for step in _steps(connection, "AND r.cohort = ?", (c,))]

    def runs(self) -> list[RunSteps]:
        """Per run: plan, rounds, steps settled, steps reserved and not settled."""
        with self._open() as connection:
            rows = connection.execute(
                """SELECT r.plan, r.run, COUNT(DISTINCT r.round), SUM(COALESCE(s.steps, 0)),
                       SUM(CASE WHEN s.n IS NULL THEN r.steps ELSE 0 END)
                   FROM entries r LEFT JOIN entries s ON s.settles = r.n WHERE r.kind = 'reserved'
                   GROUP BY r.plan, r.run ORDER BY MIN(r.n)"""
            ).fetchall()
        return [RunSteps(*row) for row in rows]

    def entries(self) -> list[str]:
        """The hash of each entry, in order."""
        with self._open() as connection:
            return [digest for (digest,) in connection.execute("SELECT hash FROM entries ORDER BY n")]

    def last_round(self, plan: str, run: str) -> int:
        """The last round of a run for which steps were reserved; 0 if there is none."""
        with self._open() as connection:
            (last,) = connection.execute(
                "SELECT MAX(round) FROM entries WHERE plan = ? AND run = ?", (plan, run)
            ).fetchone()
        return int(last or 0)

    def histories_with(self, plan: str, run: str) -> list[History]:
        """Of each cohort that a run has used, the steps of all cohorts that share a patient with it."""
        with self._open() as connection:
            used = connection.execute(
                "SELECT DISTINCT cohort FROM entries WHERE plan = ? AND run = ?", (plan, run)
            ).fetchall()
            return [_history(connection, cohort) for (cohort,) in used]

    def verify(self) -> int:
        """Check the chain; returns the number of entries. Raises DataError, naming the first entry that does
        not fit."""
        with self._open() as connection:
            return self._verify(connection)

    def _verify(self, connection: sqlite3.Connection) -> int:
        previous, n = GENESIS, 0
        rows = connection.execute(
            f"SELECT {', '.join(_COLUMNS)}, hash FROM entries ORDER BY n"  # noqa: S608
        ).fetchall()
        for *values, digest in rows:
            row = Row(*values)
            if row.n != n + 1 or row.previous != previous or digest != row.hash:
                raise DataError(f"{self._path}: entry {n + 1} was changed, removed or inserted")
            previous, n = digest, row.n
        members: dict[str, list[str]] = {Row(*values).cohort: [] for *values, _ in rows}
        for cohort, patient in connection.execute("SELECT cohort, patient FROM members"):
            members.setdefault(cohort, []).append(patient)
        if any(cohort != _cohort(patients) for cohort, patients in members.items()):
            raise DataError(f"{self._path}: the list of patients was changed; restore it from a copy")
        return n


def _cohort(patients: Iterable[str]) -> str:
    """A cohort's name is the hash of its patients: the chain over the entries holds their list too."""
    return hashlib.sha256("\n".join(sorted(set(patients))).encode()).hexdigest()


def _append(
    connection: sqlite3.Connection, cohort: str, purpose: Purpose, steps: Steps, settles: int | None = None
) -> int:
    last = connection.execute("SELECT n, hash FROM entries ORDER BY n DESC LIMIT 1").fetchone()
    n, previous = (last[0] + 1, last[1]) if last else (1, GENESIS)
    row = Row(
        n=n, time=datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
        kind="reserved" if settles is None else "settled", cohort=cohort,
        plan=purpose.plan, run=purpose.run, round=purpose.round,
        noise=float(steps[0]), sample_rate=float(steps[1]), steps=steps[2], settles=settles,
        previous=previous,
    )  # fmt: skip
    marks = ", ".join("?" * (len(_COLUMNS) + 1))
    connection.execute(f"INSERT INTO entries VALUES ({marks})", (*astuple(row), row.hash))  # noqa: S608 - question marks
    return n


def _history(connection: sqlite3.Connection, cohort: str | None) -> History:
    """Steps of every cohort that shares a patient with `cohort`; of all cohorts if it is None."""
    if cohort is None:
        return _steps(connection, "", ())
    return _steps(connection, _SHARED, (cohort,))


_SHARED = """AND r.cohort IN (
    SELECT DISTINCT b.cohort FROM members a JOIN members b ON a.patient = b.patient WHERE a.cohort = ?) """


_SPENT = """SELECT r.noise, r.sample_rate, COALESCE(s.steps, r.steps)
    FROM entries r LEFT JOIN entries s ON s.settles = r.n WHERE r.kind = 'reserved' """


def _steps(connection: sqlite3.Connection, condition: str, values: tuple[str, ...]) -> History:
    """(noise, rate, steps): settled where it is, else as reserved."""
    rows = connection.execute(_SPENT + condition, values).fetchall()
    return [(noise, rate, int(n)) for noise, rate, n in rows]


def _most(histories: Iterable[History], delta: float) -> float:
    return max((epsilon(list(one), delta) for one in {tuple(h) for h in histories}), default=0.0)


def summary(ledger: Ledger | None, budget: Budget) -> Summary:
    """ε spent and left for the patient for whom it is most, and ε of each run; None: nothing was spent."""
    if ledger is None:
        return Summary(budget.epsilon, budget.delta, 0.0, budget.epsilon, 0, [])
    spent = _most(ledger.histories(), budget.delta)
    runs = [
        RunCost(**asdict(run), epsilon=_most(ledger.histories((run.plan, run.run)), budget.delta))
        for run in ledger.runs()
    ]
    left = max(0.0, budget.epsilon - spent)
    return Summary(budget.epsilon, budget.delta, spent, left, ledger.verify(), runs)
