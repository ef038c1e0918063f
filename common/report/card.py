"""A model card (Mitchell et al., 2019, "Model Cards for Model Reporting") as one self-contained page."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from common.report.page import interval, number, percent

TEMPLATE = Path(__file__).with_name("card.html.j2")


def render_card(card: dict[str, Any], signed: bool) -> str:
    """`card` is what card.json holds, undefined numbers as None."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"number": number, "interval": interval, "percent": percent}
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(card=card, signed=signed)
