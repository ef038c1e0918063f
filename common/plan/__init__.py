"""The plan: everything a federation agrees on before it starts. Values, never code; known by its SHA-256."""

from common.plan.canonical import canonical_json
from common.plan.evaluation import Evaluation, Split
from common.plan.federation import LEVELS, Aggregation, Codec, Federation, Strategy
from common.plan.input import About, Input, Window
from common.plan.model import Model
from common.plan.plan import Plan
from common.plan.privacy import Privacy
from common.plan.run import evaluates, require_current
from common.plan.training import Augmentation, Schedule, Training

__all__ = [
    "LEVELS", "About", "Aggregation", "Augmentation", "Codec", "Evaluation", "Federation", "Input", "Model",
    "Plan", "Privacy", "Schedule", "Split", "Strategy", "Training", "Window", "canonical_json", "evaluates",
    "require_current",
]  # fmt: skip
