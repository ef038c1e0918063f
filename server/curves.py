"""history.csv while a run goes on: written anew, whole, after each round."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from common import wire
from common.files import write_atomically
from common.results.rounds import UPDATE_NORM, History, RoundReport
from server.observer import Observer, PassingOn

FILE = "history.csv"
COLUMNS = (
    "arm", "round", "site", "n_train", "train_loss", "update_norm", "train_s", "validation_loss",
    "validation_auroc",
)  # fmt: skip


class Recorded(PassingOn):
    """An Observer that writes down what another one is told."""

    def __init__(
        self, observer: Observer, folder: Path, arm: str, done: Mapping[str, History], before: History = ()
    ) -> None:
        """`done`: arms that are finished, in order; `before`: the rounds of this one that are done."""
        super().__init__(observer)
        self._file, self._arm, self._done = folder / FILE, arm, done
        self._rounds: list[RoundReport] = list(before)

    def finished_round(self, report: RoundReport) -> None:
        self._rounds.append(report)
        histories: dict[str, Sequence[RoundReport]] = {**self._done, self._arm: self._rounds}
        write_atomically(self._file, history_csv(histories).encode())
        super().finished_round(report)


def history_csv(histories: Mapping[str, History]) -> str:
    """One row a round and site: training and validation numbers."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    for arm, history in histories.items():
        for report in history:
            evaluated = report.evaluation.sites if report.evaluation else {}
            for site, trained in sorted(report.sites.items()):
                seen = evaluated.get(site, {})
                rows.writerow([
                    arm, report.round, site, int(trained[wire.N_EXAMPLES]), trained[wire.LOSS],
                    trained[UPDATE_NORM],
                    trained[wire.SECONDS], seen.get(wire.LOSS, ""), seen.get(wire.AUROC, ""),
                ])  # fmt: skip
    return text.getvalue()
