"""A deployed run's result: the hospitals' own numbers as they told them, the pooled ones from their cells."""

import math
import tracemalloc
from dataclasses import replace

import pytest

from common.results.final import Crossed, FinalReport
from common.results.rounds import RoundReport
from common.results.survey import Survey
from common.scores import mean_auroc
from common.spread import Cell, Spread
from server.checkpoint import Checkpoint
from server.outcome import outcome
from tests.helpers.plans import small_plan
from tests.helpers.results import final_answer
from tests.helpers.surveys import TOLD

PLAN = small_plan()
HISTORY = [RoundReport(round=1, bytes_down=10, bytes_up=20, sites={}, failed={}, seconds=2.0)]
NOTHING = Spread(positive=(), negative=())


def result(sites, survey=None, silent=None):
    return outcome(
        PLAN, FinalReport(sites=sites, silent=silent or {}), Checkpoint(1, {}, history=HISTORY), survey
    )


def test_a_hospital_s_own_numbers_stand_as_they_were_told():
    north, south = final_answer(0.9, seed=1), final_answer(0.7, seed=2)
    found = result({"north": north, "south": south}, Survey.of(TOLD, PLAN.findings), {"west": "its policy"})
    assert found.sites["north"].federated == replace(
        north.federated,
        accuracy=found.sites["north"].federated.accuracy,
        accuracy_ci=found.sites["north"].federated.accuracy_ci,
    )
    assert found.test.federated.mean.auroc == pytest.approx(0.8)
    assert found.silent == {"west": "its policy"}
    assert found.test.federated.n_patients == 160
    assert (found.bytes.down, found.bytes.up, found.timing.rounds_s) == (10, 20, 2.0)
    assert found.sites["south"].prevalence == {"pneumonia": 0.5}
    assert found.engine == "deployment"
    c = found.confusion
    assert c.true_positive + c.false_negative == c.true_negative + c.false_positive == 80
    assert sum(b.n for b in found.calibration) == 160
    assert {name: group.n_patients for name, group in found.subgroups["sex"].items()} == {"F": 160, "M": 160}


def test_whose_patients_the_subgroups_are_is_said():
    """Hospitals keep small groups back, and some tell nothing: it was said to be all of them."""
    north, south = final_answer(0.9, seed=1), final_answer(0.7, seed=2)
    assert result({"north": north, "south": south}).told_subgroups is None
    assert result({"north": north}, silent={"west": "its policy"}).told_subgroups == {"sex": ["north"]}
    found = result({"north": north, "south": replace(south, subgroups={})})
    assert found.told_subgroups == {"sex": ["north"]}
    assert found.subgroups["sex"]["F"].n_patients == 80


def test_every_model_at_every_hospital_where_models_crossed():
    answers = {
        name: final_answer(0.9, seed=k, alone=True) for k, name in enumerate(("north", "south", "west"))
    }
    crossed = Crossed(auroc={"north": {"south": 0.7}, "south": {"north": 0.6, "west": math.nan}}, silent={})
    final = FinalReport(sites=answers, silent={}, crossed=crossed)
    found = outcome(PLAN, final, Checkpoint(1, {}, history=HISTORY), None)
    assert found.matrix["federated"] == {"north": 0.9, "south": 0.9, "west": 0.9}
    assert list(found.matrix) == ["federated", "local-north", "local-south"]
    assert found.matrix["local-north"]["south"] == 0.7
    assert found.matrix["local-south"] | {"west": None} == {"north": 0.6, "south": 0.9, "west": None}
    assert math.isnan(found.matrix["local-north"]["west"])
    assert result(answers).matrix == {}


def test_the_pairs_within_a_hospital_count_as_it_told_them():
    answer = final_answer(0.5)
    told = result({"north": answer}).test.federated
    assert told.auroc == pytest.approx(0.5)  # whatever the cells say: all pairs are its own
    both = result({"north": answer, "south": replace(answer, federated=replace(answer.federated, auroc=0.7))})
    cells = result({"north": replace(answer, federated=replace(answer.federated, auroc=math.nan))})
    across = cells.test.federated.auroc
    assert both.test.federated.auroc == pytest.approx(0.25 * (0.5 + 0.7) + 0.5 * across, abs=1e-9)


def test_a_site_s_split_is_what_it_told_of_it():
    found = result({"south": final_answer()}, Survey.of(TOLD, PLAN.findings)).sites["south"]
    assert "test" not in found.split
    assert found.n_patients is None
    assert result({"south": final_answer()}).sites["south"].split == {}


def test_what_nobody_told_is_undefined_and_ends_nothing():
    empty = replace(
        final_answer(), validation={"pneumonia": NOTHING}, test={"pneumonia": NOTHING}, subgroups={}
    )
    found = result({"north": empty})
    assert math.isnan(found.test.federated.auroc)
    assert (found.confusion.true_positive, found.confusion.chosen) == (0, False)
    assert mean_auroc([found.sites["north"].federated]) == 0.8


@pytest.mark.slow
def test_a_hospital_that_claims_many_costs_no_memory():
    many = Cell(n=20_000, n_patients=20_000, mean=0.5, spread=1.0, skew=0.0)
    big = {"pneumonia": Spread(positive=(many,), negative=(replace(many, mean=-0.5),))}
    answer = replace(final_answer(), test=big)
    few = small_plan(evaluation={"bootstrap": 200})
    sites = FinalReport(sites={"north": answer, "south": final_answer(seed=1)}, silent={})
    tracemalloc.start()
    found = outcome(few, sites, Checkpoint(1, {}, history=HISTORY), None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.plan_sha256 == few.sha256
    assert peak < 3e9
    assert found.test.federated.auroc_ci[1] > found.test.federated.auroc_ci[0]
