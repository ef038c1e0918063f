"""An evaluation -> its page: how good is the model on these patients?"""

from pathlib import Path

from markupsafe import Markup

from common.report import charts
from common.report.template import render
from common.results.evaluation import EvaluationResult

TEMPLATE = Path(__file__).with_name("evaluation.html.j2")


def render_evaluation(result: EvaluationResult) -> str:
    """One self-contained page."""
    pictures = {
        name: {
            "roc": Markup(charts.roc(one.curve, one.threshold, name)),  # noqa: S704 - made by our own charts
            "precision": Markup(charts.precision_recall(one.curve, one.threshold, name)),  # noqa: S704
            "reliability": Markup(charts.reliability(one.calibration, name)),  # noqa: S704
        }
        for name, one in result.findings.items()
    }
    return render(TEMPLATE, result=result, pictures=pictures)
