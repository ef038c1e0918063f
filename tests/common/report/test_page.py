"""The report of a run: whole in itself, with every hospital and every number of its result."""

import math
from dataclasses import replace

import pytest

from common.report.page import _mean, _series, render_report
from common.results.rounds import Evaluation, RoundReport
from tests.helpers.plans import small_plan
from tests.helpers.results import run_result


def rounds(*values, error=0.02):
    return [
        RoundReport(
            round=k, bytes_down=1, bytes_up=1, sites={"north": {"loss": 0.5, "seconds": 1.0}}, failed={},
            evaluation=Evaluation(
                loss=0.5, auroc=value, brier=0.2, temperature=1.0, auroc_se=error, sites={}, failed={}
            ),
        )
        for k, value in enumerate(values, 1)
    ]  # fmt: skip


def test_the_page_needs_nothing_from_elsewhere_and_names_every_hospital():
    result = run_result({"north <b>": 0.81234, "south": math.nan})
    html = render_report(small_plan(), result, {"federated": rounds(0.7, 0.8), "local-north": rounds(0.6)})
    assert "<script" not in html
    assert "north &lt;b&gt;" in html
    assert "north <b>" not in html
    assert "south" in html
    assert "0.812" in html
    assert "nan" not in html.lower()
    assert small_plan().sha256[:12] in html or small_plan().sha256 in html


def test_a_run_without_other_arms_has_a_page_too():
    result = run_result({"north": 0.8})
    alone = replace(result, test=replace(result.test, local_only=None, centralised=None))
    assert "north" in render_report(small_plan(), alone, {"federated": rounds(0.7)})


def test_a_band_is_1_96_errors_wide_and_undefined_rounds_are_left_out():
    (first, second) = _series(rounds(0.7, math.nan, 0.99, error=0.02))
    assert first == pytest.approx((1.0, 0.7, 0.7 - 1.96 * 0.02, 0.7 + 1.96 * 0.02))
    assert second == pytest.approx((3.0, 0.99, 0.99 - 1.96 * 0.02, 1.0))  # no AUROC is above 1


def test_the_mean_of_hospitals_is_where_all_have_a_value_and_errors_add_as_squares():
    points = _mean([rounds(0.6, 0.7, 0.8, error=0.03), rounds(0.8, math.nan, 0.9, error=0.04)])
    assert [x for x, *_ in points] == [1.0, 3.0]
    spread = 1.96 * math.hypot(0.03, 0.04) / 2
    assert points[0] == pytest.approx((1.0, 0.7, 0.7 - spread, 0.7 + spread))
