"""The report's pictures, as SVG text."""

import hashlib
import io
import math
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from common.results.run import Bin, Point, SiteResult

FEDERATED, LOCAL, CENTRALISED = "#0b6e99", "#d9730d", "#6b7280"
Series = Sequence[tuple[float, float, float, float]]
"""Points (x, value, low, high)."""


def curves(federated: Series, centralised: Series, local: Series, label: str) -> str:
    """Validation AUROC (or loss) by round, with 95 % bands."""
    with _style():
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
        if axes.lines:
            axes.legend(frameon=False, loc="lower right")
        return _svg(figure, f"{label} by round")


def gains(sites: Mapping[str, SiteResult]) -> str:
    """Each hospital's AUROC alone and federated, on its own test patients."""
    with _style():
        figure, axes = _figure(6.4, 0.9 + 0.55 * len(sites))
        for i, site in enumerate(sites.values()):
            for verdict, colour, shift in (
                (site.federated, FEDERATED, 0.14),
                (site.local_only, LOCAL, -0.14),
            ):
                if verdict and math.isfinite(verdict.auroc):
                    ends = [end if math.isfinite(end) else verdict.auroc for end in verdict.auroc_ci]
                    axes.plot(ends, [-i + shift] * 2, color=colour, linewidth=2, alpha=0.5)
                    axes.plot(verdict.auroc, -i + shift, "o", color=colour, markersize=7)
        axes.set_yticks([-i for i in range(len(sites))], list(sites))
        axes.set_ylim(-len(sites) + 0.4, 0.6)
        axes.set_xlabel("test AUROC, 95 % interval")
        axes.plot([], [], "o", color=FEDERATED, label="federated")
        axes.plot([], [], "o", color=LOCAL, label="alone")
        axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
        return _svg(figure, "gain per hospital")


def reliability(bins: Sequence[Bin], name: str) -> str:
    """Observed against predicted probability; the area of a dot is the number of patients."""
    predicted, observed = [b.predicted for b in bins], [b.observed for b in bins]
    largest = max((b.n for b in bins), default=1)
    with _style():
        figure, axes = _figure(3.6, 3.4)
        axes.plot([0, 1], [0, 1], color="#9ca3af", linewidth=1, linestyle="--")
        axes.plot(predicted, observed, color=FEDERATED, linewidth=1)
        sizes = [20 + 180 * b.n / largest for b in bins]
        axes.scatter(predicted, observed, s=sizes, color=FEDERATED, alpha=0.7)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        axes.set(xlabel="predicted probability", ylabel="observed share")
        return _svg(figure, f"calibration of {name}")


def roc(curve: Sequence[Point], threshold: float, name: str, other: Point | None = None) -> str:
    """Sensitivity against 1 - specificity, with the threshold's place (a dot), and another's (a square)."""
    with _style():
        figure, axes = _figure(3.6, 3.4)
        axes.plot([0, 1], [0, 1], color="#9ca3af", linewidth=1, linestyle="--")
        axes.plot(
            [1 - p.specificity for p in curve], [p.sensitivity for p in curve], color=FEDERATED, linewidth=2
        )
        if place := _place(curve, threshold):
            axes.plot(1 - place.specificity, place.sensitivity, "o", color=LOCAL, markersize=8)
        if other:
            axes.plot(1 - other.specificity, other.sensitivity, "s", color=CENTRALISED, markersize=6)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        axes.set(xlabel="1 - specificity", ylabel="sensitivity")
        return _svg(figure, f"ROC curve of {name}")


def precision_recall(curve: Sequence[Point], threshold: float, name: str) -> str:
    """Precision against sensitivity (recall), with the threshold's place and the share of positives."""
    with _style():
        figure, axes = _figure(3.6, 3.4)
        called = [p for p in curve if math.isfinite(p.precision)]
        axes.step(
            [p.sensitivity for p in called], [p.precision for p in called], color=FEDERATED, linewidth=2
        )
        if called:
            axes.axhline(called[-1].precision, color="#9ca3af", linewidth=1, linestyle="--")
        if (place := _place(curve, threshold)) and math.isfinite(place.precision):
            axes.plot(place.sensitivity, place.precision, "o", color=LOCAL, markersize=7)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        axes.set(xlabel="recall (sensitivity)", ylabel="precision")
        return _svg(figure, f"precision and recall of {name}")


def _place(curve: Sequence[Point], threshold: float) -> Point | None:
    return min(curve, key=lambda p: abs(p.threshold - threshold), default=None)


def greys(histograms: Mapping[str, Sequence[float]]) -> str:
    """Shares of pixels by grey value, a line a scanner."""
    with _style():
        figure, axes = _figure(6.8, 3.0)
        for number, (name, shares) in enumerate(histograms.items()):
            middles = [(i + 0.5) / len(shares) for i in range(len(shares))]
            style, label = ("-", "--", ":", "-.")[number % 4], " " + name[:40].replace("$", r"\$")
            axes.plot(middles, shares, linewidth=1.8, linestyle=style, label=label)
        axes.set(xlim=(0, 1), xlabel="grey value", ylabel="share of pixels", yscale="log")
        if histograms:
            axes.legend(frameon=False, fontsize=8)
        return _svg(figure, "grey values by scanner")


def variants(rows: Sequence[tuple[str, Sequence[float], float]], label: str) -> str:
    """A study's variants below each other: (name, one value a seed, their mean)."""
    with _style():
        figure, axes = _figure(6.4, 0.9 + 0.38 * len(rows))
        for i, (_, seeds, mean) in enumerate(rows):
            axes.plot(seeds, [-i] * len(seeds), "o", color=FEDERATED, markersize=4, alpha=0.5)
            axes.plot([mean], [-i], "|", color=FEDERATED, markersize=16, markeredgewidth=3)
        axes.set_yticks([-i for i in range(len(rows))], [name for name, _, _ in rows])
        axes.set_ylim(-len(rows) + 0.4, 0.6)
        axes.set_xlabel(label + " (bar: mean, dots: seeds)")
        return _svg(figure, label)


def _style() -> AbstractContextManager[None]:
    return mpl.rc_context({
        "font.family": "sans-serif", "font.size": 10, "svg.fonttype": "none", "svg.hashsalt": "pneumofed",
        "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#e5e7eb",
        "axes.axisbelow": True,
    })  # fmt: skip


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def _svg(figure: Figure, title: str) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Title": title}, transparent=True)
    svg = _with_own_ids(text.getvalue()[text.getvalue().index("<svg") :].replace("\n", " "), title)
    size, named = r'<svg([^>]*?) width="[^"]*" height="[^"]*"', rf'<svg role="img" aria-label="{title}"\1'
    return re.sub(size, named, svg, count=1)


def _with_own_ids(svg: str, title: str) -> str:
    """Of several pictures in a page: names that nothing in it refers to go, the others differ between
    pictures."""
    used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', svg))
    svg = re.sub(r' id="([^"]+)"', lambda one: one.group() if one[1] in used else "", svg)
    own = hashlib.sha256(f"{title} {svg}".encode()).hexdigest()[:8]
    return re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{own}-", svg)
