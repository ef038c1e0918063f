"""Everything that is explained about one case, and its numbers for JSON."""

from dataclasses import dataclass
from typing import Any

import torch

from client.prediction.cases import Case
from client.prediction.explain.trust import Trust, examine
from client.prediction.explain.when import When, explain_when
from client.prediction.explain.where import Where, explain_where
from common.calibration import calibrate
from common.handover import RESEARCH_USE, Handed
from common.models import CNNLSTM


@dataclass(frozen=True)
class Explained:
    """One finding in one case."""

    case: Case
    finding: str
    probability: float  # calibrated
    when: When
    where: Where
    trust: Trust
    speaks_for: bool
    """Whether the maps show what speaks for the finding, or, where the model says no, what speaks against
    it."""


def explain_case(handed: Handed, model: CNNLSTM, case: Case, finding: str, device: torch.device) -> Explained:
    """When, where, and how far to believe it."""
    seen, k = case.seen(device), handed.plan.findings.index(finding)
    when = explain_when(model, seen, k)
    score = when.running[-1:]
    sign = 1.0 if float(score) >= 0 else -1.0
    where = explain_where(model, seen, k, sign)
    trust = examine(model, seen, k, where, sign)
    probability = float(calibrate(score.float().sigmoid().numpy(), handed.temperature)[0])
    return Explained(case, finding, probability, when, where, trust, sign > 0)


def numbers(explained: Explained) -> dict[str, Any]:
    """For explanation.json; one entry a visit. No identifier is in it."""
    when, trust = explained.when, explained.trust
    visits = [
        {"position": float(p), "attention": float(a), "score_after": float(r), "influence": float(i)}
        for p, a, r, i in zip(
            explained.case.positions, when.attention, when.running, when.influence, strict=True
        )
    ]
    return {
        "use": RESEARCH_USE,
        "finding": explained.finding,
        "probability": explained.probability,
        "maps_show": "what speaks for it" if explained.speaks_for else "what speaks against it",
        "visits": visits,
        "turning_visit": when.turning + 1,
        "trust": {
            "agreement_integrated_gradients_occlusion": trust.agreement,
            "agreement_grad_cam_occlusion": trust.agreement_cam,
            "same_with_random_weights": trust.randomised,
            "deletion_area": trust.deletion_area,
            "insertion_area": trust.insertion_area,
        },
    }
