"""Pictures as SVG: what was given is in them, undefined values are left out, and the same numbers draw the same text."""

import math
import xml.etree.ElementTree as ET

import pytest

from common.report import charts
from common.results.run import Bin
from tests.helpers.results import site_result

SERIES = [(1.0, 0.7, 0.6, 0.8), (2.0, 0.8, 0.7, 0.9)]


def texts(svg):
    return [t.text for t in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_curves_name_the_arms_that_are_there():
    assert {"federated", "alone (mean)", "centralised", "AUROC", "round"} <= set(
        texts(charts.curves(SERIES, SERIES, SERIES, "AUROC"))
    )
    assert "centralised" not in texts(charts.curves(SERIES, [], SERIES, "AUROC"))


def test_every_hospital_has_its_row_even_one_with_nothing_to_show():
    sites = {"north": site_result(0.8), "south": site_result(math.nan)}
    svg = charts.gains(sites)
    assert {"north", "south"} <= set(texts(svg))
    assert "nan" not in svg.lower()


def test_the_dots_of_the_calibration_grow_with_the_patients():
    bins = [Bin(predicted=0.1, observed=0.2, n=10), Bin(predicted=0.8, observed=0.7, n=40)]
    ET.fromstring(charts.reliability(bins, "x"))
    assert charts.reliability(bins, "x") != charts.reliability(
        [bins[0], Bin(predicted=0.8, observed=0.7, n=20)], "x"
    )
    ET.fromstring(charts.reliability([], "x"))


def test_variants_are_named_below_each_other():
    assert {"narrow", "wide"} <= set(
        texts(charts.variants([("narrow", [0.7, 0.8], 0.75), ("wide", [0.9], 0.9)], "AUROC"))
    )


@pytest.mark.parametrize(
    "draw", [lambda: charts.curves(SERIES, [], [], "AUROC"), lambda: charts.reliability([], "x")]
)
def test_the_same_numbers_draw_the_same_text_with_a_name_for_those_who_cannot_see(draw):
    assert draw() == draw()
    root = ET.fromstring(draw())
    assert root.get("role") == "img"
    assert root.get("aria-label")
    assert root.get("width") is None  # as wide as the page
