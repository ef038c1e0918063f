"""Images with an index: PNG, JPEG or TIFF files that a table puts in order."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client.imaging.frames import Frame, ImageFile
from client.imaging.labels import parse_label
from client.imaging.outcome import Reason, Tally
from client.imaging.sequence import Collection, Sequence, choose, up_to_each
from client.imaging.tables import Row, Table, parse_day, parse_number, read_table, require_key
from common.errors import DataError
from common.plan import Input


@dataclass(frozen=True)
class _Row:
    """An image of an index."""

    place: tuple[float, float]  # day and, on one day, order
    file: str
    labels: NDArray[np.float32]
    number: int  # of the row
    visit: str  # of the patient's; the same for all where labels are of patients
    path: Path


@dataclass(frozen=True)
class ImageIndex:
    """Images (PNG, JPEG, TIFF) named by an index CSV: patient, file, day or order, and one column a finding.

    `columns` maps these names to the ones that the file uses. A single finding may stand in a column `label`.
    With `order` instead of `day`, frames lie one unit apart; with both, `order` is that of one day. Where the
    plan learns labels of visits, a visit is what has one text in the column `visit`; without it, one day.
    """

    path: Path
    columns: Mapping[str, str] = field(default_factory=dict)
    labelled: bool = True
    """Whether labels are asked for; without, none is looked at."""

    def files(self) -> list[Path]:
        if not self.path.is_file():
            raise DataError(f"{self.path}: no such file; expected an index CSV")
        column = self._column("file")
        named = {self.path.parent / row[column] for _, row in read_table(self.path, [column]).rows}
        return [self.path, *sorted(p for p in named if p.is_file())]

    def read(self, contract: Input, findings: tuple[str, ...]) -> Collection:
        patient, file = self._column("patient"), self._column("file")
        table = read_table(self.path, (patient, file))
        place = self._place_column(table)
        tally, by_patient, dated = Tally(), defaultdict(list), set[bool]()
        rows = dict[tuple[str, ...], int]()
        for number, row in table.rows:
            where = table.where(number)
            if not row[patient]:
                tally.add(Reason.NO_PATIENT)
            elif rows.setdefault(tuple(row.values()), number) != number:
                tally.add(Reason.DUPLICATE)
            elif not row[place]:
                tally.add(Reason.NO_POSITION)
            else:
                position, is_date = parse_day(row[place], where)
                dated.add(is_date)
                if len(dated) > 1:
                    raise DataError(
                        f"{where}: found numbers and dates in the column {place!r}; expected one kind"
                    )
                at = position, self._order(row, place, where)
                visit = self._visit(row, position, where) if contract.label == "visit" else ""
                labels, image = self._labels(row, findings, where), self.path.parent / row[file]
                name = require_key(row[patient], "patient", where)
                by_patient[name].append(_Row(at, row[file], labels, number, visit, image))
        patients = sorted(by_patient)
        return Collection(
            [s for p in patients for s in self._sequences(p, by_patient[p], contract, tally)], tally
        )

    def _sequences(self, patient: str, rows: list[_Row], contract: Input, tally: Tally) -> Iterator[Sequence]:
        """One patient's: of all images, or for each labelled visit of its own and all before. Without labels,
        that of the newest visit."""
        rows.sort(key=lambda row: (row.place, row.file))
        self._require_one_order(rows)
        tally.add(
            Reason.ORDER_UNSURE,
            sum(n for n in Counter(row.place for row in rows).values() if n > 1),
        )
        labels = self._labels_of_visits(rows)
        known = {visit for visit, values in labels.items() if not np.isnan(values).all()}
        if not self.labelled:
            known = {rows[-1].visit}
        if not known:
            tally.add(Reason.UNLABELLED)
            return
        for visit, some in up_to_each(rows, [row.visit for row in rows], known, tally).items():
            kept = [some[i] for i in choose(len(some), contract.max_frames, contract.modality)]
            frames = [Frame(row.place[0] - rows[0].place[0], ImageFile(row.path)) for row in kept]
            own = tuple(f for f, row in zip(frames, kept, strict=True) if row.visit == visit)
            yield Sequence(patient, tuple(frames), labels[visit], own=own)

    def _require_one_order(self, rows: list[_Row]) -> None:
        """Raises DataError if a file has two places, or nobody can say which of two visits was first."""
        files = Counter(row.path.resolve() for row in rows)
        if twice := [row.number for row in rows if files[row.path.resolve()] > 1]:
            raise DataError(
                f"{self.path}: rows {twice[0]} and {twice[1]} have the same file at two places; remove one"
            )
        for one, other in pairwise(rows):
            if one.place == other.place and one.visit != other.visit:
                raise DataError(
                    f"{self.path}: rows {one.number} and {other.number} are two visits at one time; say "
                    f"which was first in a column {self._column('order')!r}"
                )

    def _labels_of_visits(self, rows: list[_Row]) -> dict[str, NDArray[np.float32]]:
        """Visit -> its labels. Raises DataError if rows contradict each other."""
        first: dict[str, _Row] = {}
        for row in rows:
            before = first.setdefault(row.visit, row)
            if not np.array_equal(before.labels, row.labels, equal_nan=True):
                numbers = f"{self.path}: rows {before.number} and {row.number}"
                if row.visit:
                    raise DataError(f"{numbers} are of one visit and have different labels")
                raise DataError(
                    f"{numbers} are of one patient and have different labels; a plan with input.label visit "
                    "learns those of visits"
                )
        return {visit: row.labels for visit, row in first.items()}

    def _column(self, name: str) -> str:
        return self.columns.get(name, name)

    def _place_column(self, table: Table) -> str:
        for name in (self._column("day"), self._column("order")):
            if name in table.columns:
                return name
        raise DataError(
            f"{self.path}: expected a column 'day' or 'order' that puts a patient's images in order"
        )

    def _order(self, row: Row, place: str, where: str) -> float:
        """On one day."""
        order = self._column("order")
        return parse_number(row[order], where) if place != order and row.get(order) else 0.0

    def _visit(self, row: Row, position: float, where: str) -> str:
        column = self._column("visit")
        return require_key(row[column], "visit", where) if column in row else repr(position)

    def _labels(self, row: Row, findings: tuple[str, ...], where: str) -> NDArray[np.float32]:
        if not self.labelled:
            return np.full(len(findings), np.nan, np.float32)
        columns = [self._column(f) for f in findings]
        if len(findings) == 1 and columns[0] not in row:
            columns = [self._column("label")]
        if missing := [c for c in columns if c not in row]:
            raise DataError(f"{self.path}: the column {missing[0]!r} is missing; found {', '.join(row)}")
        return np.array([parse_label(row[c], where) for c in columns], dtype=np.float32)
