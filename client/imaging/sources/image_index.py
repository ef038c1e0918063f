"""Images with an index: PNG, JPEG or TIFF files that a table puts in order."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client.imaging.frames import Frame, ImageFile
from client.imaging.labels import parse_label
from client.imaging.outcome import Reason, Tally
from client.imaging.sequence import Collection, Sequence, choose
from client.imaging.tables import Table, parse_day, parse_number, read_table, require_key
from common.errors import DataError
from common.plan import Input


@dataclass(frozen=True)
class _Row:
    """An image of an index."""

    place: tuple[float, float]  # day and, on one day, order
    file: str
    labels: NDArray[np.float32]
    number: int  # of the row


@dataclass(frozen=True)
class ImageIndex:
    """Images (PNG, JPEG, TIFF) named by an index CSV: patient, file, day or order, and one column a finding.

    `columns` maps these names to the ones that the file uses. A single finding may stand in a column `label`.
    With `order` instead of `day`, frames lie one unit apart; with both, `order` is that of one day.
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
        order = self._column("order")
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
                after = parse_number(row[order], where) if place != order and row.get(order) else 0.0
                name = require_key(row[patient], "patient", where)
                by_patient[name].append(
                    _Row((position, after), row[file], self._labels(row, findings, where), number)
                )
        return Collection(
            [s for p in sorted(by_patient) if (s := self._sequence(p, by_patient[p], contract, tally))], tally
        )

    def _sequence(self, patient: str, rows: list[_Row], contract: Input, tally: Tally) -> Sequence | None:
        rows.sort(key=lambda row: (row.place, row.file))
        files = Counter((self.path.parent / row.file).resolve() for row in rows)
        if twice := [row.number for row in rows if files[(self.path.parent / row.file).resolve()] > 1]:
            raise DataError(
                f"{self.path}: rows {twice[0]} and {twice[1]} have the same file at two places; remove one"
            )
        tally.add(
            Reason.ORDER_UNSURE,
            sum(n for n in Counter(row.place for row in rows).values() if n > 1),
        )
        labels = rows[0].labels
        if any(not np.array_equal(labels, row.labels, equal_nan=True) for row in rows):
            raise DataError(
                f"{self.path}: one patient's rows have different labels; a sequence has one label a finding"
            )
        if self.labelled and np.isnan(labels).all():
            tally.add(Reason.UNLABELLED)
            return None
        kept = [rows[i] for i in choose(len(rows), contract.max_frames, contract.modality)]
        first = kept[0].place[0]
        frames = tuple(Frame(row.place[0] - first, ImageFile(self.path.parent / row.file)) for row in kept)
        return Sequence(patient, frames, labels)

    def _column(self, name: str) -> str:
        return self.columns.get(name, name)

    def _place_column(self, table: Table) -> str:
        for name in (self._column("day"), self._column("order")):
            if name in table.columns:
                return name
        raise DataError(
            f"{self.path}: expected a column 'day' or 'order' that puts a patient's images in order"
        )

    def _labels(self, row: dict[str, str], findings: tuple[str, ...], where: str) -> NDArray[np.float32]:
        if not self.labelled:
            return np.full(len(findings), np.nan, np.float32)
        columns = [self._column(f) for f in findings]
        if len(findings) == 1 and columns[0] not in row:
            columns = [self._column("label")]
        if missing := [c for c in columns if c not in row]:
            raise DataError(f"{self.path}: the column {missing[0]!r} is missing; found {', '.join(row)}")
        return np.array([parse_label(row[c], where) for c in columns], dtype=np.float32)
