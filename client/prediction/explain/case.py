"""Everything that is explained about one case, and its numbers for JSON."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from pydicom.uid import generate_uid
from scipy.special import logit

from client.prediction.cases import Case
from client.prediction.explain.trust import Trust, examine
from client.prediction.explain.when import When, explain_when
from client.prediction.explain.where import Where, explain_where
from common.calibration import calibrate, calibrated
from common.handover import RESEARCH_USE, Handed
from common.likeness import Like, like
from common.models import CNNLSTM
from common.protocol import program


@dataclass(frozen=True)
class Explained:
    """One finding in one case."""

    case: Case
    finding: str
    probability: float  # calibrated
    threshold: float  # on that probability
    cut: float  # the same on the score: from here on it is a yes
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
    weights: str  # likewise
    unit: str  # of positions: day or mm
    doubts: tuple[str, ...] = ()
    """Of the images: what was left out, and what should be looked at."""

    @property
    def side(self) -> str:
        """What the maps' places do."""
        return "supports" if self.called else "opposes"

    @property
    def turning(self) -> int:
        """The visit at which the score moved most toward what the model says."""
        return self.when.turning(1.0 if self.called else -1.0)

    def uid(self, *what: object) -> str:
        """Of an object that is made of it: the same each time that it says the same, so that one that is
        filed again is no second one."""
        images = [f"{header.uid}.{header.frame}" for header in self.case.headers]
        said = [
            self.plan,
            f"{self.probability:.3f}",
            f"{self.threshold:.6f}",
            f"{self.cut:.6f}",
            *self.doubts,
        ]
        parts = [program(), self.weights, *said, self.finding, *images, *map(str, what)]
        return str(generate_uid(entropy_srcs=["\0".join(parts)]))


def explain_case(
    handed: Handed, model: CNNLSTM, case: Case, finding: str, device: torch.device, doubts: Sequence[str] = ()
) -> Explained:
    """When, where, and how far to believe it; `doubts` are what is known of the images."""
    seen, k = case.seen(device), handed.plan.findings.index(finding)
    when = explain_when(model, seen, k)
    score = when.running[-1:]
    before = float(score.float().sigmoid())
    threshold = handed.thresholds.get(finding, 0.5)
    called = before >= threshold
    sign = 1.0 if called else -1.0
    where = explain_where(model, seen, k, sign)
    trust = examine(model, seen, k, where, sign)
    moved = float(calibrate(np.array([threshold]), handed.temperature)[0])
    return Explained(
        case=case, finding=finding, probability=float(calibrated(score.numpy(), handed.temperature)[0]),
        threshold=moved, cut=float(logit(threshold)), threshold_chosen=finding in handed.thresholds,
        like=like(handed.calibration.get(finding, ()), before),
        called=called, when=when, where=where, trust=trust, model=handed.plan.name, plan=handed.plan.sha256,
        weights=handed.sha256, doubts=tuple(doubts),
        unit="mm" if handed.plan.input.modality == "ct" else "day",
    )  # fmt: skip


def short(finding: str) -> str:
    """A code for a finding, of 16 plain letters at most, that no other finding has."""
    hashed = hashlib.sha256(finding.encode()).hexdigest()[:8]
    if not finding.isascii():
        return f"finding-{hashed}"
    return finding if len(finding) <= MOST_OF_A_CODE else f"{finding[:7]}-{hashed}"


MOST_OF_A_CODE = 16
"""Of SH (PS3.5 6.2)."""


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
        "weights_sha256": explained.weights,
        "probability": explained.probability,
        "like_scores": asdict(explained.like) if explained.like else None,
        "threshold": explained.threshold,
        "threshold_chosen": explained.threshold_chosen,
        "score_threshold": explained.cut,
        "called": explained.called,
        "maps_show": "what speaks for it" if explained.called else "what speaks against it",
        "visits": visits,
        "turning_visit": explained.turning + 1,
        "doubts": list(explained.doubts),
        "trust": {
            "agreement_integrated_gradients_occlusion": trust.agreement,
            "agreement_grad_cam_occlusion": trust.agreement_cam,
            "same_with_random_weights": trust.randomised,
            "deletion_area": trust.deletion_area,
            "insertion_area": trust.insertion_area,
        },
    }
