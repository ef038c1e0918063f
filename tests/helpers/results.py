"""Results made of one AUROC, for pages and pictures."""

from dataclasses import replace

from common.results.run import (
    Arms,
    Bin,
    Calibrated,
    Confusion,
    Counts,
    Gain,
    Lengths,
    RunResult,
    Scores,
    SiteResult,
    Traffic,
    Verdict,
)
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
