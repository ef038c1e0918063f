"""Numbers as people read them, and pages that cannot be talked into something."""

import math

import jinja2
import pytest

from common.report import template
from common.report.template import (
    arm_name,
    duration,
    human_bytes,
    interval,
    is_known,
    mean_known,
    number,
    p_value,
    percent,
    render,
)

NAN = math.nan


@pytest.mark.parametrize(
    ("show", "value", "text"),
    [
        (number, 0.9116, "0.912"), (number, NAN, "n/a"), (number, None, "n/a"), (number, math.inf, "n/a"),
        (interval, (0.87, 0.9441), "0.870 – 0.944"), (interval, (NAN, 0.9), ""), (interval, (0.9, NAN), ""),
        (interval, (1.0, 1.0), "too few to say"),
        (percent, 0.349, "35 %"), (percent, NAN, "n/a"), (p_value, 0.0312, "0.031"), (p_value, 0.0004, "< 0.001"),
        (p_value, NAN, ""), (duration, 45.04, "45.0 s"), (duration, 192, "3.2 min"), (duration, 9000, "2.5 h"),
        (human_bytes, 999, "999 B"), (human_bytes, 12_300_000, "12.3 MB"), (human_bytes, 5e15, "5000.0 TB"),
        (arm_name, "local-x", "x alone"), (arm_name, "federated", "federated"),
        (is_known, 0.0, True), (is_known, NAN, False), (is_known, None, False),
    ],
)  # fmt: skip
def test_numbers_are_shown_as_people_read_them(show, value, text):
    assert show(value) == text


def test_a_mean_leaves_out_what_is_undefined():
    assert mean_known([1.0, NAN, 3.0]) == 2.0
    assert math.isnan(mean_known([NAN]))
    assert math.isnan(mean_known([]))


def test_what_others_wrote_is_escaped_and_a_missing_name_is_an_error(tmp_path):
    page = tmp_path / "page.j2"
    page.write_text("<p>{{ name }} {{ value | number }}{% if value is known %} known{% endif %}</p>")
    assert render(page, name="<script>", value=0.5) == "<p>&lt;script&gt; 0.500 known</p>"
    assert render(page, name="a", value=NAN) == "<p>a n/a</p>"
    with pytest.raises(jinja2.UndefinedError):
        render(page, value=0.5)


def test_every_template_of_ours_is_whole_in_itself():
    folder = template.Path(template.__file__).parent
    for path in folder.glob("*.j2"):
        text = path.read_text()
        assert "<script" not in text
        assert 'src="http' not in text
        assert "url(" not in text
