"""A run's rounds on the boards that people look at (common/boards.py)."""

import math
from collections.abc import Mapping, Sequence

from common import wire
from common.boards import Board
from common.results.rounds import UPDATE_NORM, RoundReport
from server.observer import Observer, PassingOn
from server.pooling import weighted_mean


class Live(PassingOn):
    """An Observer that puts the numbers of each round on boards, and tells another one."""

    def __init__(self, observer: Observer, boards: Sequence[Board]) -> None:
        super().__init__(observer)
        self._boards = boards

    def finished_round(self, report: RoundReport) -> None:
        for board in self._boards:
            board.put(numbers_of(report), report.round)
        super().finished_round(report)


def numbers_of(report: RoundReport) -> Mapping[str, float]:
    """Of one round, by name: the federation's, and each site's as far as it tells them."""
    numbers = {
        "round/seconds": report.seconds,
        "round/sites": float(len(report.sites)),
        "round/bytes": float(report.bytes_up + report.bytes_down),
        "train/loss": weighted_mean((dict(told) for told in report.sites.values()), wire.LOSS),
    }
    for site, told in report.sites.items():
        numbers |= {f"train/loss/{site}": told[wire.LOSS], f"train/update_norm/{site}": told[UPDATE_NORM]}
    if evaluation := report.evaluation:
        numbers |= {
            "validation/auroc": evaluation.auroc,
            "validation/loss": evaluation.loss,
            "validation/brier": evaluation.brier,
        }
        for site, told in evaluation.sites.items():
            numbers |= {
                f"validation/auroc/{site}": told.get(wire.AUROC, math.nan),
                f"validation/loss/{site}": told.get(wire.LOSS, math.nan),
            }
    return numbers
