"""One self-contained page with a slider over the sequence. It shows a patient's images: it stays at the
site."""

import json
from pathlib import Path

from markupsafe import Markup

from client.imaging.facts.side import UNKNOWN
from client.prediction.explain.case import Explained, numbers
from client.prediction.explain.pictures import METHODS, colours, data_address, grey, overlay
from common.handover import RESEARCH_USE
from common.report.template import render

TEMPLATE = Path(__file__).with_name("page.html.j2")
SIDE = 360


def render_page(explained: Explained) -> str:
    """A page of HTML."""
    n = len(explained.case.pixels)
    pictures = {"image": [data_address(grey(explained, t, SIDE)) for t in range(n)]}
    pictures |= {
        method: [data_address(overlay(explained, method, t, SIDE)) for t in range(n)] for method in METHODS
    }
    return render(
        TEMPLATE,
        about=numbers(explained),
        n=n,
        unit=explained.unit,
        turning=_turning(explained),
        scale=data_address(colours()),
        patient=explained.case.patient,
        like=f"How sure: {explained.like}" if explained.like else "",
        sided=any(header.right_at != UNKNOWN for header in explained.case.headers),
        methods=METHODS,
        use=RESEARCH_USE,
        curves=[explained.trust.deletion.tolist(), explained.trust.insertion.tolist()],
        first={name: some[-1] for name, some in pictures.items()},
        data=Markup(json.dumps({"pictures": pictures, "visits": numbers(explained)["visits"]})),  # noqa: S704 - numbers and our own pictures
    )


def _turning(explained: Explained) -> str:
    """In a sentence: at which image the model's mind was made up."""
    scores = [float(score) for score in explained.when.running]
    if len(scores) == 1:
        return "There is one image: nothing is compared over time."
    at = explained.turning
    day = f"{explained.unit} {explained.case.positions[at]:.0f}"
    return (
        f"The score moved most toward its end at image {at + 1} ({day}): from {scores[at - 1]:+.2f} to "
        f"{scores[at]:+.2f}; at the end it is {scores[-1]:+.2f}."
    )
