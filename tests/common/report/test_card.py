"""The card's page says whether the folder is signed, and all that the card knows."""

import pytest

from common.report.card import render_card
from common.results.card import read_card
from server.export import export_run
from tests.helpers.browser import FINE, problems
from tests.helpers.runs import deployed_run


@pytest.fixture
def card(tmp_path):
    return read_card(export_run(deployed_run(tmp_path / "run"), tmp_path / "model", None))


def test_the_page_has_what_the_card_has(card):
    page = render_card(card, signed=True)
    for said in (card.name, card.use, card.plan_sha256, *card.limits, *card.sites):
        assert said.split("<")[0][:40] in page
    assert "<script" not in page


def test_an_unsigned_model_has_another_page_than_a_signed_one(card):
    assert render_card(card, signed=True) != render_card(card, signed=False)


def test_names_of_others_are_escaped(card):
    from dataclasses import replace

    page = render_card(replace(card, name="<script>alert(1)</script>"), signed=True)
    assert "<script" not in page


@pytest.mark.slow
def test_anybody_can_read_the_page_on_a_desk_and_on_a_telephone(card):
    assert problems(render_card(card, signed=True)) == FINE
