"""The report's pictures, as SVG text. From numbers alone; nothing here knows where they come from."""

import io
import re
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

FEDERATED, LOCAL, CENTRALISED = "#0b6e99", "#d9730d", "#6b7280"
STYLE: Any = {
    "font.family": "sans-serif", "font.size": 10, "svg.fonttype": "none", "svg.hashsalt": "pneumofed",
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#e5e7eb",
    "axes.axisbelow": True,
}  # fmt: skip

Series = Sequence[tuple[float, float, float, float]]
"""Points (x, value, low, high)."""


def curves(federated: Series, centralised: Series, local: Series, label: str) -> str:
    """Validation AUROC (or loss) by round, with 95 % bands."""
    with mpl.rc_context(STYLE):
        figure, axes = _figure(6.4, 3.4)
        for series, colour, name in (
            (centralised, CENTRALISED, "centralised"),
            (local, LOCAL, "alone (mean)"),
            (federated, FEDERATED, "federated"),
        ):
            if series:
                x, value, low, high = zip(*series, strict=True)
                axes.fill_between(x, low, high, color=colour, alpha=0.13, linewidth=0)
                axes.plot(x, value, color=colour, linewidth=2, marker="o", markersize=3, label=name)
        axes.set_xlabel("round")
        axes.set_ylabel(label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(frameon=False, loc="lower right")
        return _svg(figure, f"{label} by round")


def gains(rows: Sequence[tuple[str, dict[str, Any], dict[str, Any]]]) -> str:
    """Each hospital's AUROC alone and federated, on its own test patients: (name, federated, local), values
    with `ci`."""
    with mpl.rc_context(STYLE):
        figure, axes = _figure(6.4, 0.9 + 0.55 * len(rows))
        for i, (_, federated, local) in enumerate(rows):
            for verdict, colour, shift in ((federated, FEDERATED, 0.14), (local, LOCAL, -0.14)):
                if verdict.get("auroc") is not None:
                    low, high = (end if end is not None else verdict["auroc"] for end in verdict["auroc_ci"])
                    axes.plot([low, high], [-i + shift] * 2, color=colour, linewidth=2, alpha=0.5)
                    axes.plot(verdict["auroc"], -i + shift, "o", color=colour, markersize=7)
        axes.set_yticks([-i for i in range(len(rows))], [name for name, _, _ in rows])
        axes.set_ylim(-len(rows) + 0.4, 0.6)
        axes.set_xlabel("test AUROC, 95 % interval")
        axes.plot([], [], "o", color=FEDERATED, label="federated")
        axes.plot([], [], "o", color=LOCAL, label="alone")
        axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
        return _svg(figure, "gain per hospital")


def reliability(points: Sequence[dict[str, float]]) -> str:
    """Observed against predicted probability; the area of a dot is the number of patients."""
    with mpl.rc_context(STYLE):
        figure, axes = _figure(3.6, 3.4)
        axes.plot([0, 1], [0, 1], color="#9ca3af", linewidth=1, linestyle="--")
        largest = max((p["n"] for p in points), default=1)
        sizes = [20 + 180 * p["n"] / largest for p in points]
        axes.plot(
            [p["predicted"] for p in points], [p["observed"] for p in points], color=FEDERATED, linewidth=1
        )
        axes.scatter(
            [p["predicted"] for p in points],
            [p["observed"] for p in points],
            s=sizes,
            color=FEDERATED,
            alpha=0.7,
        )
        axes.set(
            xlim=(-0.02, 1.02),
            ylim=(-0.02, 1.02),
            xlabel="predicted probability",
            ylabel="observed share",
            aspect="equal",
        )
        return _svg(figure, "calibration")


def variants(rows: Sequence[tuple[str, Sequence[float], float]], label: str) -> str:
    """A study's variants below each other: (name, one value a seed, their mean)."""
    with mpl.rc_context(STYLE):
        figure, axes = _figure(6.4, 0.9 + 0.38 * len(rows))
        for i, (_, seeds, mean) in enumerate(rows):
            axes.plot(seeds, [-i] * len(seeds), "o", color=FEDERATED, markersize=4, alpha=0.5)
            axes.plot([mean], [-i], "|", color=FEDERATED, markersize=16, markeredgewidth=3)
        axes.set_yticks([-i for i in range(len(rows))], [name for name, _, _ in rows])
        axes.set_ylim(-len(rows) + 0.4, 0.6)
        axes.set_xlabel(label + " (bar: mean, dots: seeds)")
        return _svg(figure, label)


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def _svg(figure: Figure, title: str) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Title": title}, transparent=True)
    svg = text.getvalue()[text.getvalue().index("<svg") :]
    return re.sub(
        r'<svg width="[^"]*" height="[^"]*"',
        f'<svg role="img" aria-label="{title}"',
        svg.replace("\n", " "),
        count=1,
    )
