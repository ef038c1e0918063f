"""A model card (Mitchell et al., 2019, "Model Cards for Model Reporting") as one self-contained page."""

from pathlib import Path
from typing import Any

from common.report.template import render

TEMPLATE = Path(__file__).with_name("card.html.j2")


def render_card(card: dict[str, Any], signed: bool) -> str:
    """`card` is what card.json holds, undefined numbers as None."""
    return render(TEMPLATE, card=card, signed=signed)
