"""All models of a run on the test patients: pooled, by hospital, by subgroup, and every model at every
hospital."""

import math
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from client.compute.device import choose_device, describe
from client.imaging.cohort import Cohort
from client.imaging.outcome import Tally
from client.methods import personal_weights
from client.methods.memory import SiteMemory
from client.training.evaluate import predict
from common import metrics, wire
from common.models import build_model
from common.plan import Plan
from server.checkpoint import Checkpoint
from server.roster import Deployment
from simulation.arms import CENTRALISED, FEDERATED, local_arm, memory_folder
from simulation.scenario import Scenario
from simulation.scores import Predictions, calibrated, confusion, gain, judge, reliability, subgroups
from simulation.sites import SiteData


class _Judge:
    """Predictions of any arm's model on any hospital's patients of a split."""

    def __init__(self, scenario: Scenario, out: Path) -> None:
        self.plan, self.device, self._out = scenario.plan, choose_device(scenario.simulation.device), out
        self.model = build_model(self.plan).to(self.device)

    def predict(
        self, checkpoint: Checkpoint, cohort: Cohort, split: str, own: wire.Weights | None = None
    ) -> Predictions:
        """By the checkpoint's weights, but for those of the hospital's `own`."""
        indices = cohort.split(self.plan.split)[split]
        wire.set_weights(self.model, {**checkpoint.weights, **(own or {})})
        probabilities = predict(self.model, cohort, indices, self.device)
        attributes = {name: values[indices] for name, values in cohort.attributes.items()}
        return Predictions(probabilities, cohort.labels[indices], cohort.patients[indices], attributes)

    def own_weights(self, arm: str, site: str) -> wire.Weights:
        """What a personalised method left at a site at the end of an arm; empty for other methods."""
        memory = SiteMemory(memory_folder(self._out, arm, site) / Deployment().run)
        return personal_weights(self.plan, self.model, memory, self.plan.rounds + 1)


MANY_SITES = 20
"""With more hospitals the matrix of models by hospitals is left out: nobody reads it."""


def assess(
    scenario: Scenario, sites: list[SiteData], results: dict[str, Checkpoint], out: Path
) -> dict[str, Any]:
    """All models on the test patients. Threshold and temperature are chosen on validation patients, by the
    federated model."""
    plan, judge_, cohorts = scenario.plan, _Judge(scenario, out), {site.name: site.open() for site in sites}
    federated = results[FEDERATED]

    def by_federated(split: str) -> dict[str, Predictions]:
        return {
            n: judge_.predict(federated, cohort, split, judge_.own_weights(FEDERATED, n))
            for n, cohort in cohorts.items()
        }

    threshold = choose_threshold(Predictions.together(list(by_federated("validation").values())), plan)
    tested = {FEDERATED: by_federated("test")}
    others = [arm for arm in results if arm != FEDERATED]
    for arm in others:
        at = (
            cohorts
            if arm == CENTRALISED or len(sites) <= MANY_SITES
            else {n: c for n, c in cohorts.items() if arm == local_arm(n)}
        )
        # A local model's own tensors go with it, to whichever hospital's patients it is tried on.
        own = judge_.own_weights(arm, arm.removeprefix(local_arm("")))
        tested[arm] = {n: judge_.predict(results[arm], cohort, "test", own) for n, cohort in at.items()}
    test = Predictions.together(list(tested[FEDERATED].values()))
    evaluation = federated.history[-1].evaluation
    temperature = evaluation.temperature if evaluation else math.nan
    by_site = {
        site.name: _assess_site(plan, cohorts[site.name], tested, site.name, threshold) for site in sites
    }
    verdict: dict[str, Any] = {FEDERATED: judge(test, plan, threshold)}
    verdict[FEDERATED] |= {
        "mean": {"auroc": _mean_auroc(by_site, FEDERATED)},
        "calibrated": calibrated(test, plan, temperature),
    }
    if any(local_arm(site.name) in results for site in sites):
        verdict["local_only"] = {"mean": {"auroc": _mean_auroc(by_site, "local_only")}}
    if CENTRALISED in results:
        verdict[CENTRALISED] = judge(
            Predictions.together(list(tested[CENTRALISED].values())), plan, threshold
        )
    history, tally = federated.history, sum((cohort.tally for cohort in cohorts.values()), Tally())
    return {
        "name": plan.name,
        "seed": plan.seed,
        "rounds": plan.rounds,
        "plan_sha256": plan.sha256,
        "findings": list(plan.findings),
        "test": verdict,
        "confusion": confusion(test, threshold),
        "calibration": reliability(test),
        "subgroups": subgroups(test, plan),
        "matrix": matrix(tested) if len(sites) <= MANY_SITES else {},
        "sites": by_site,
        "bytes": {"up": sum(r.bytes_up for r in history), "down": sum(r.bytes_down for r in history)},
        "skipped_files": tally.skipped_files,
        "skipped": tally.left_out(),
        "device": describe(judge_.device),
        "engine": scenario.simulation.engine,
        "data": scenario.data.model_dump(mode="json"),
        "versions": versions(),
    }


def choose_threshold(validation: Predictions, plan: Plan) -> float:
    """What the plan makes largest on the validation patients, for its first finding."""
    known = ~np.isnan(validation.labels[:, 0])
    rule = metrics.youden_threshold if plan.evaluation.threshold == "youden" else metrics.accuracy_threshold
    return rule(validation.probabilities[known, 0], validation.labels[known, 0])


def matrix(tested: dict[str, dict[str, Predictions]]) -> dict[str, dict[str, float]]:
    """Model -> hospital -> AUROC on that hospital's test patients (the mean over findings); NaN where only
    one class is there."""
    return {
        arm: {
            n: metrics.macro_estimate(
                metrics.auroc, p.probabilities, p.labels, np.zeros((0, len(p.patients)))
            ).value
            for n, p in at.items()
        }
        for arm, at in tested.items()
    }


def _assess_site(
    plan: Plan, cohort: Cohort, tested: dict[str, dict[str, Predictions]], site: str, threshold: float
) -> dict[str, Any]:
    split, federated = cohort.split(plan.split), tested[FEDERATED][site]
    about: dict[str, Any] = {
        "n_patients": len(set(cohort.patients)),
        "n_sequences": len(cohort),
        "n_frames": int(cohort.lengths.sum()),
        "frames": {
            "min": int(cohort.lengths.min()),
            "median": float(np.median(cohort.lengths)),
            "max": int(cohort.lengths.max()),
        },
        "split": {part: cohort.count_patients(indices) for part, indices in split.items()},
        "prevalence": {f: float(np.nanmean(cohort.labels[:, k])) for k, f in enumerate(plan.findings)},
        "scanners": sorted(set(cohort.scanners)),
        "skipped": cohort.tally.left_out(),
        FEDERATED: judge(federated, plan, threshold),
    }
    if local_arm(site) in tested:
        local = tested[local_arm(site)][site]
        about["local_only"] = judge(local, plan, threshold)
        about["gain"] = gain(federated, local, plan)
    return about


def _mean_auroc(by_site: dict[str, Any], arm: str) -> float:
    """Mean over the hospitals in which it is defined (both classes among the test patients)."""
    values = [
        site[arm]["auroc"] for site in by_site.values() if arm in site and math.isfinite(site[arm]["auroc"])
    ]
    return float(np.mean(values)) if values else float("nan")


def versions() -> dict[str, str]:
    """What the numbers were made with."""
    names = ("pneumofed", "flwr", "torch", "opacus", "pydicom", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}
