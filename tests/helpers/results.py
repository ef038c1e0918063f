"""Results made of one AUROC, for pages and pictures."""

import math
from dataclasses import replace

import numpy as np

from common.advice import UNSURE
from common.results.final import FinalAnswer
from common.results.run import (
    Arms,
    Bin,
    Calibrated,
    Confusion,
    Counts,
    FindingDetail,
    Gain,
    Lengths,
    Point,
    RunResult,
    Scores,
    SiteResult,
    Traffic,
    Verdict,
)
from common.spread import Spread
from tests.helpers.plans import small_plan


def verdict(auroc: float) -> Verdict:
    """A model's, with intervals of 0.1 to each side."""
    names = [name for name in Scores.__annotations__ if not name.endswith("_ci")]
    scores = dict.fromkeys(names, auroc) | {f"{name}_ci": (auroc - 0.1, auroc + 0.1) for name in names}
    return Verdict(**scores, **dict.fromkeys(Counts.__annotations__, 20))


def site_result(auroc: float) -> SiteResult:
    """A hospital's, whose own model is 0.05 worse."""
    return SiteResult(
        n_patients=80,
        n_sequences=80,
        n_frames=200,
        frames=Lengths(min=1, median=2.5, max=4),
        split={"train": 40, "validation": 20, "test": 20},
        prevalence={"pneumonia": 0.5},
        scanners=["A"],
        skipped={},
        federated=verdict(auroc),
        local_only=verdict(auroc - 0.05),
        gain=Gain(value=0.05, ci=(0.0, 0.1), p=0.04, advice="join"),
    )


def run_result(sites: dict[str, float], temperature: float | None = 1.4) -> RunResult:
    """A run's, by hospital; without other arms than the hospitals' own models."""
    mean = verdict(0.8)
    if temperature is not None:
        scaled = Calibrated(
            temperature=temperature, brier=0.1, brier_ci=(0.0, 0.2), ece=0.1, ece_ci=(0.0, 0.2)
        )
        mean = replace(mean, calibrated=scaled)
    return RunResult(
        name="small",
        seed=5,
        rounds=2,
        plan_sha256=small_plan().sha256,
        findings=["pneumonia"],
        test=Arms(federated=mean),
        confusion=Confusion(
            threshold=0.5, true_positive=9, false_positive=1, false_negative=2, true_negative=8
        ),
        calibration=[Bin(predicted=0.3, observed=0.4, n=20)],
        subgroups={},
        matrix={},
        sites={name: site_result(auroc) for name, auroc in sites.items()},
        bytes=Traffic(up=1000, down=2000),
        skipped_files=0,
        skipped={},
        device="cpu",
        engine="sequential",
        data={"source": "phantom"},
        versions={"python": "3"},
    )


def finding_detail(threshold: float) -> FindingDetail:
    """Of one finding, with a curve of four points."""
    curve = [
        Point(threshold=t, sensitivity=s, specificity=c, precision=p)
        for t, s, c, p in (
            (1.1, 0.0, 1.0, math.nan),
            (0.7, 0.8, 0.9, 0.9),
            (0.4, 0.9, 0.5, 0.6),
            (0.1, 1.0, 0.0, 0.5),
        )
    ]
    counts = Confusion(
        threshold=threshold, true_positive=9, false_positive=1, false_negative=2, true_negative=8
    )
    return FindingDetail(
        n_positive=11, n_negative=9, confusion=counts, calibration=[Bin(predicted=0.3, observed=0.4, n=20)],
        curve=curve, at_specificity=curve[1],
    )  # fmt: skip


def final_answer(auroc: float = 0.8, n: int = 40, seed: int = 0, alone: bool = False) -> FinalAnswer:
    """A hospital's, of `n` patients of each class whose scores overlap; `alone`: of its own model too."""
    rng, labels = np.random.default_rng(seed), np.repeat([1.0, 0.0], n)
    logits = np.where(labels == 1, rng.normal(1.0, 1.0, 2 * n), rng.normal(-1.0, 1.0, 2 * n))
    spread = Spread.of(1 / (1 + np.exp(-logits)), labels, np.arange(2 * n).astype(str), 10)
    assert spread is not None
    spreads = {"pneumonia": spread}
    told = {**vars(verdict(auroc)), "n_patients": 2 * n, "n_sequences": 2 * n}
    return FinalAnswer(
        federated=Verdict(**told),
        alone=Verdict(**told) if alone else None,
        gain=Gain(value=0.0, ci=(-0.1, 0.1), p=1.0, advice=UNSURE) if alone else None,
        validation=spreads,
        test=spreads,
        subgroups={"sex": {"F": spreads, "M": spreads}},
    )
