import json
import math
from pathlib import Path

import pytest

from common.errors import RunError
from common.results.rounds import RoundReport, history_text, parse_history, read_history, write_history

OLDER = Path(__file__).with_name("older")


def test_a_history_from_before_there_were_types_is_read(tmp_path):
    history = read_history(OLDER)
    assert [report.round for report in history] == [1, 2]
    assert history[0].failed == {"hospital-z": "no answer before the deadline"}
    assert math.isnan(history[0].evaluation.auroc)
    write_history(tmp_path, history)
    assert json.loads((tmp_path / "history.json").read_text()) == json.loads(
        (OLDER / "history.json").read_text()
    )


def test_a_checkpoint_s_history_keeps_what_is_undefined():
    text = history_text(read_history(OLDER))
    assert '"auroc": NaN' in text
    assert history_text(parse_history(text, "")) == text


def test_a_round_is_judged_after_its_training():
    trained = RoundReport(round=1, bytes_down=100, bytes_up=50, sites={}, failed={})
    judged = trained.judged(None, 30, 2.5)
    assert (judged.round, judged.bytes_down, judged.bytes_up, judged.seconds) == (1, 130, 50, 2.5)


@pytest.mark.parametrize("text", ['{"round": 1}', '[{"round": 1}]', '[{"round": 1, "better": true}]'])
def test_other_histories_are_refused(text):
    with pytest.raises(RunError, match=r"run 7: .* finish the run with that version, or start it anew"):
        parse_history(text, "run 7")
