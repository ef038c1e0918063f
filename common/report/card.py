"""A model card (Mitchell et al., 2019, "Model Cards for Model Reporting") as one self-contained page."""

from pathlib import Path

from common.methods import METHODS
from common.report.template import render
from common.results.card import Card

TEMPLATE = Path(__file__).with_name("card.html.j2")


def render_card(card: Card, signed: bool) -> str:
    """The page that goes with card.json."""
    method = METHODS.get(str(card.strategy.get("name")))
    return render(TEMPLATE, card=card, signed=signed, of_others=method is not None and method.judges_own)
