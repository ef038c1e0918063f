"""The report of a run: whole in itself, with every hospital and every number of its result."""

import math
from dataclasses import replace

import pytest

from common.plan import Privacy
from common.report.page import _mean, _series, render_report
from common.results.rounds import Evaluation, RoundReport
from common.results.run import Group
from tests.helpers.browser import FINE, problems
from tests.helpers.plans import small_plan
from tests.helpers.results import finding_detail, run_result


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


def test_the_subgroups_are_of_those_that_told_them():
    groups = {"sex": {"F": Group(n_patients=20, auroc=0.9, auroc_ci=(0.8, 1.0))}}
    whole = replace(run_result({"north <b>": 0.8, "south": 0.7}), subgroups=groups)
    said, course = "Federated model, test patients of", {"federated": rounds(0.7, 0.8)}
    assert f"{said} all hospitals; groups" in render_report(small_plan(), whole, course)
    some = replace(whole, told_subgroups={"sex": ["north <b>"]}, silent={"west": "its policy"})
    told = f"{said} 1 of 3 hospitals by sex (north &lt;b&gt;); the others told none; groups"
    assert told in render_report(small_plan(), some, course)


def test_a_run_without_other_arms_has_a_page_too():
    result = run_result({"north": 0.8})
    alone = replace(result, test=replace(result.test, local_only=None, centralised=None))
    assert "north" in render_report(small_plan(), alone, {"federated": rounds(0.7)})


def test_a_page_says_what_is_not_there_and_why():
    """A threshold that nobody chose, hospitals that told nothing, and those that took no part in judging."""
    result = run_result({"north": 0.8, "south": 0.7})
    matrix = {"federated": {"north": 0.8, "south": 0.7}, "local-north": {"north": 0.8, "south": 0.6}}
    result = replace(
        result, matrix=matrix, engine="deployment", silent={"west": "its policy"}, not_crossed={"south": "keeps it"},
        confusion=replace(result.confusion, threshold=0.5, chosen=False),
    )  # fmt: skip
    detail = {"pneumonia": replace(finding_detail(0.5), confusion=result.confusion)}
    html = " ".join(
        render_report(small_plan(), replace(result, details=detail), {"federated": rounds(0.7)}).split()
    )
    assert "nobody chose a threshold" in html
    assert "on the validation patients)" not in html
    assert "3 hospitals, of which 2 told final scores" in html
    assert "Not all of it is there: south (keeps it)." in html


def test_where_no_round_was_judged_the_page_says_so_and_shows_no_empty_picture():
    nobody = {"federated": rounds(math.nan, math.nan), "local-north": rounds(math.nan)}
    html = render_report(small_plan(), run_result({"north": 0.8}), nobody)
    learning = html[html.index("<h2>Learning</h2>") :].split("</section>")[0]
    assert "Not known: no round has an AUROC" in learning
    assert "<svg" not in learning


def test_a_band_is_1_96_errors_wide_and_undefined_rounds_are_left_out():
    (first, second) = _series(rounds(0.7, math.nan, 0.99, error=0.02))
    assert first == pytest.approx((1.0, 0.7, 0.7 - 1.96 * 0.02, 0.7 + 1.96 * 0.02))
    assert second == pytest.approx((3.0, 0.99, 0.99 - 1.96 * 0.02, 1.0))  # no AUROC is above 1


def test_the_mean_of_hospitals_is_where_all_have_a_value_and_errors_add_as_squares():
    points = _mean([rounds(0.6, 0.7, 0.8, error=0.03), rounds(0.8, math.nan, 0.9, error=0.04)])
    assert [x for x, *_ in points] == [1.0, 3.0]
    spread = 1.96 * math.hypot(0.03, 0.04) / 2
    assert points[0] == pytest.approx((1.0, 0.7, 0.7 - spread, 0.7 + spread))


@pytest.mark.slow
def test_each_finding_is_shown_by_itself_and_privacy_stands_at_the_top():
    plan = small_plan(findings=("pneumonia", "effusion"), privacy=Privacy(epsilon=3.0, delta=1e-4, steps=4))
    result = run_result({"north": 0.81234, "a hospital with a long name": 0.9})
    own = {
        name: replace(result.test.federated, auroc=auroc)
        for name, auroc in (("pneumonia", 0.91), ("effusion", 0.62))
    }
    federated = replace(result.test.federated, findings=own)
    detail = {"pneumonia": finding_detail(0.4), "effusion": finding_detail(0.7)}
    result = replace(
        result, findings=plan.findings, test=replace(result.test, federated=federated), details=detail,
        matrix={"federated": dict.fromkeys(result.sites, 0.8), "local-north": dict.fromkeys(result.sites, 0.7)},
    )  # fmt: skip
    html = render_report(plan, result, {"federated": rounds(0.7, 0.8), "local-north": rounds(0.6)})
    assert html.index("ε = 3") < html.index("<section>")
    for name, auroc, threshold in (("pneumonia", "0.910", "0.400"), ("effusion", "0.620", "0.700")):
        section = html[html.index(f"<h2>{name}: who is called") :].split("</section>")[0]
        assert f"AUROC {auroc}" in section
        assert f"Dot: the threshold {threshold}" in section
        assert f'aria-label="ROC curve of {name}"' in section
        assert "the sensitivity is 0.80" in section
    assert problems(html) == FINE


def test_the_best_model_of_each_hospital_is_bold_whatever_the_hospital_is_called():
    result = run_result({"1": 0.8, "st. mary": 0.9})
    alone = {"1": 0.75, "st. mary": math.nan}
    result = replace(result, matrix={"federated": {"1": 0.7, "st. mary": 0.9}, "local-1": alone})
    html = render_report(small_plan(), result, {"federated": rounds(0.7)})
    rows = [
        row.split("</table>")[0]
        for row in html.split("<h2>Every model at every hospital</h2>")[1].split("<tr>")
    ]
    assert [row.count("<b>") for row in rows[2:4]] == [1, 1]
    assert "<b>0.900</b>" in rows[2]
    assert "<b>0.750</b>" in rows[3]


def test_a_run_of_before_shows_its_first_finding():
    html = render_report(small_plan(), run_result({"north": 0.8}), {"federated": rounds(0.7)})
    assert html.count("who is called") == 1
    assert "ROC curve" not in html
    assert "ε =" not in html


@pytest.mark.slow
def test_many_hospitals_with_long_names_can_be_read():
    long = "a_very_long_finding_name_that_somebody_gave_it_in_one_word"
    plan, names = (
        small_plan(findings=("pneumonia", long)),
        [f"hospital-number-{k}-of-the-region" for k in range(12)],
    )
    result = run_result(dict.fromkeys(names, 0.8))
    matrix = {f"local-{name}": dict.fromkeys(names, 0.7) for name in names}
    result = replace(
        result,
        findings=plan.findings,
        details=dict.fromkeys(plan.findings, finding_detail(0.4)),
        matrix=matrix,
    )
    html = render_report(plan, result, {"federated": rounds(0.7, 0.8)})
    assert html.count('<div class="scroll"') == html.count('<div class="scroll" tabindex="0"')
    assert problems(html) == FINE
