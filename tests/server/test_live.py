"""What of a round stands on a board."""

import pytest

from common import wire
from common.results.rounds import UPDATE_NORM, Evaluation, RoundReport
from server.live import Live, numbers_of

TRAINED = {
    "north": {wire.N_EXAMPLES: 10.0, wire.LOSS: 0.4, UPDATE_NORM: 1.5, wire.SECONDS: 2.0},
    "south": {wire.N_EXAMPLES: 30.0, wire.LOSS: 0.8, UPDATE_NORM: 2.5, wire.SECONDS: 2.0},
}
REPORT = RoundReport(
    round=3, bytes_down=10, bytes_up=5, sites=TRAINED, failed={}, seconds=4.0,
    evaluation=Evaluation(
        loss=0.5, auroc=0.8, brier=0.2, temperature=1.0, auroc_se=0.1, failed={},
        sites={"north": {wire.AUROC: 0.7, wire.LOSS: 0.6}},
    ),
)  # fmt: skip


class Told(list):
    """A board, and an Observer."""

    def put(self, numbers, step):
        self.append((step, dict(numbers)))

    def finished_round(self, report):
        self.append(report)

    def started(self, *args):
        self.append(args)

    gathering = replied = asked = started


def test_the_federation_and_each_site_are_there():
    numbers = numbers_of(REPORT)
    assert numbers["train/loss"] == pytest.approx(0.7)  # by patients
    assert numbers["train/loss/south"] == 0.8
    assert numbers["train/update_norm/north"] == 1.5
    assert numbers["validation/auroc"] == 0.8
    assert numbers["validation/auroc/north"] == 0.7
    assert numbers["round/bytes"] == 15
    assert "validation/auroc/south" not in numbers  # it told none


def test_a_round_without_evaluation_has_no_validation():
    from dataclasses import replace

    assert not [name for name in numbers_of(replace(REPORT, evaluation=None)) if "validation" in name]


def test_the_boards_and_the_other_observer_are_told():
    board, observer = Told(), Told()
    live = Live(observer, [board])
    live.gathering([], 1, {})
    live.started(["north"], 0, 5)
    live.replied("north", "train")
    live.finished_round(REPORT)
    assert board == [(3, dict(numbers_of(REPORT)))]
    assert observer == [([], 1, {}), (["north"], 0, 5), ("north", "train"), REPORT]
