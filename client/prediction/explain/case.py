"""Everything that is explained about one case, and its numbers for JSON."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from client.prediction.cases import Case
from client.prediction.explain.trust import Trust, examine
from client.prediction.explain.when import When, explain_when
from client.prediction.explain.where import Where, explain_where
from common.calibration import calibrate
from common.handover import RESEARCH_USE, Handed
from common.likeness import Like, like
from common.models import CNNLSTM


@dataclass(frozen=True)
class Explained:
    """One finding in one case."""

    case: Case
    finding: str
    probability: float  # calibrated
    threshold: float  # on that probability
    threshold_chosen: bool
    """On validation patients; otherwise it is 0.5."""
    like: Like | None
    """How often scores like this one were right on test patients; None where nobody judged the model."""
    called: bool
    """Whether the model says that the finding is there. Then the maps show what speaks for it, otherwise what
    speaks against it."""
    when: When
    where: Where
    trust: Trust
    model: str
    plan: str  # its SHA-256
    unit: str  # of positions: day or mm

    @property
    def side(self) -> str:
        """What the maps' places do."""
        return "supports" if self.called else "opposes"


def explain_case(handed: Handed, model: CNNLSTM, case: Case, finding: str, device: torch.device) -> Explained:
    """When, where, and how far to believe it."""
    seen, k = case.seen(device), handed.plan.findings.index(finding)
    when = explain_when(model, seen, k)
    score = when.running[-1:]
    before = float(score.float().sigmoid())
    chosen = handed.threshold is not None and k == 0  # for the first finding alone: common/scores.py
    threshold = handed.threshold if chosen and handed.threshold is not None else 0.5
    called = before >= threshold
    sign = 1.0 if called else -1.0
    where = explain_where(model, seen, k, sign)
    trust = examine(model, seen, k, where, sign)
    moved = calibrate(np.array([before, threshold]), handed.temperature).tolist()
    return Explained(
        case=case, finding=finding, probability=moved[0], threshold=moved[1], threshold_chosen=chosen,
        like=like(handed.calibration.get(finding, ()), before),
        called=called, when=when, where=where, trust=trust, model=handed.plan.name, plan=handed.plan.sha256,
        unit="mm" if handed.plan.input.modality == "ct" else "day",
    )  # fmt: skip


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
        "model": explained.model,
        "plan_sha256": explained.plan,
        "probability": explained.probability,
        "like_scores": asdict(explained.like) if explained.like else None,
        "threshold": explained.threshold,
        "threshold_chosen": explained.threshold_chosen,
        "called": explained.called,
        "maps_show": "what speaks for it" if explained.called else "what speaks against it",
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
