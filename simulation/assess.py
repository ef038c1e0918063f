"""All models of a run on the test patients: pooled, by hospital, by subgroup, and every model at every
hospital."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from pydantic import JsonValue

from client.compute.device import choose_device, describe
from client.governance.accounting import epsilon
from client.governance.ledger import Ledger
from client.imaging.cohort import Cohort
from client.imaging.outcome import Tally
from client.methods import personal_weights
from client.methods.memory import SiteMemory
from client.training.evaluate import predictions
from common import wire
from common.arms import CENTRALISED, FEDERATED, local_arm
from common.curves import details
from common.metrics import Estimate
from common.models import build_model
from common.plan import Plan
from common.results.rounds import Evaluation
from common.results.run import Alone, Arms, Lengths, Mean, RunResult, SiteResult, Traffic
from common.scores import (
    Predictions,
    calibrated,
    confusion,
    gain,
    judge,
    macro_auroc,
    mean_auroc,
    reliability,
    subgroups,
    thresholds_with_intervals,
)
from common.versions import versions
from server.checkpoint import Checkpoint
from server.roster import Deployment
from simulation import runs
from simulation.arms import ledger_of, memory_folder
from simulation.scenario import Scenario
from simulation.sites import SiteData

Thresholds = dict[str, tuple[Estimate, ...]]
"""Arm -> one a finding."""


class _Judge:
    """Predictions of any arm's model on any hospital's patients of a split."""

    def __init__(
        self, scenario: Scenario, sites: list[SiteData], results: dict[str, Checkpoint], out: Path
    ) -> None:
        self.plan, self.device, self._out = scenario.plan, choose_device(scenario.simulation.device), out
        self.model = build_model(self.plan).to(self.device)
        self.cohorts = {site.name: site.open() for site in sites}
        self.results = results

    def federated(self, split: str) -> dict[str, Predictions]:
        """By hospital."""
        return {n: self._predict(FEDERATED, n, split, self._own(n)) for n in self.cohorts}

    def tested(self) -> dict[str, dict[str, Predictions]]:
        """Arm -> hospital -> its test patients."""
        tested = {FEDERATED: self.federated("test")}
        for arm in [arm for arm in self.results if arm != FEDERATED]:
            tested[arm] = {n: self._predict(arm, n, "test") for n in self._tried_at(arm)}
        return tested

    def thresholds(self) -> Thresholds:
        """Of each arm's model, from the validation patients that it may look at, or from what its sites told
        of them."""
        found: Thresholds = {}
        for arm, result in self.results.items():
            evaluation = result.chosen(self.plan).evaluation
            validation = self._validation(arm)
            private = evaluation.private if evaluation else None
            found[arm] = thresholds_with_intervals(validation, self.plan, private)
        return found

    def _validation(self, arm: str) -> Predictions:
        if arm == FEDERATED:
            return _together(self.federated("validation"))
        at = [n for n in self.cohorts if arm in (CENTRALISED, local_arm(n))]
        return _together({n: self._predict(arm, n, "validation") for n in at})

    def _tried_at(self, arm: str) -> list[str]:
        everywhere = arm == CENTRALISED or len(self.cohorts) <= MANY_SITES
        return [n for n in self.cohorts if everywhere or arm == local_arm(n)]

    def _predict(self, arm: str, site: str, split: str, own: wire.Weights | None = None) -> Predictions:
        """By the weights that the arm hands over, but for those that are the hospital's `own`."""
        cohort = self.cohorts[site]
        indices = cohort.split(self.plan.split)[split]
        wire.set_weights(self.model, {**self.results[arm].chosen(self.plan).weights, **(own or {})})
        return predictions(self.model, cohort, indices, self.device)

    def _own(self, site: str) -> wire.Weights:
        """What a personalised method left at a site; empty for other methods."""
        memory = SiteMemory(memory_folder(self._out, FEDERATED, site) / Deployment().run)
        return personal_weights(self.plan, self.model, memory, self.plan.rounds + 1)


MANY_SITES = 20
"""With more hospitals the matrix of models by hospitals is left out: nobody reads it."""


def assess(scenario: Scenario, sites: list[SiteData], results: dict[str, Checkpoint], out: Path) -> RunResult:
    """All models on the test patients, each at the thresholds that its own validation scores choose; the time
    that it took is for the caller to add. The temperature is the federated model's."""
    plan, judge_ = scenario.plan, _Judge(scenario, sites, results, out)
    own = judge_.thresholds()
    tested, history = judge_.tested(), results[FEDERATED].history
    test = _together(tested[FEDERATED])
    by_site = {n: _assess_site(plan, cohort, tested, n, own) for n, cohort in judge_.cohorts.items()}
    chosen = results[FEDERATED].chosen(plan)
    tally = sum((cohort.tally for cohort in judge_.cohorts.values()), Tally())
    return RunResult(
        name=plan.name,
        seed=plan.seed,
        rounds=results[FEDERATED].round,  # patience may have ended them
        chosen=chosen.round if plan.evaluation.select == "best" else None,
        plan_sha256=plan.sha256,
        findings=plan.findings,
        test=_arms(plan, tested, by_site, own, chosen.evaluation),
        confusion=confusion(test, own[FEDERATED][0].value, interval=own[FEDERATED][0].known_interval),
        calibration=reliability(test),
        details=details(test, own[FEDERATED], plan),
        subgroups=subgroups(test, plan),
        matrix=matrix(tested) if len(sites) <= MANY_SITES else {},
        sites=by_site,
        bytes=Traffic(up=sum(r.bytes_up for r in history), down=sum(r.bytes_down for r in history)),
        skipped_files=tally.skipped_files,
        skipped=tally.left_out(),
        device=describe(judge_.device),
        engine=scenario.simulation.engine,
        data=_told_of(scenario, out),
        cohorts={name: cohort.fingerprint for name, cohort in judge_.cohorts.items()},
        epsilon=_spent(plan, out, list(judge_.cohorts)),
        versions=versions(),
    )


def _spent(plan: Plan, out: Path, sites: list[str]) -> float | None:
    """ε of the run, at the hospital where it is most; None without privacy."""
    if plan.privacy is None:
        return None
    histories = {tuple(h) for site in sites for h in Ledger(ledger_of(out, FEDERATED, site)).histories()}
    return max(epsilon(list(history), plan.privacy.delta) for history in histories)


def _told_of(scenario: Scenario, out: Path) -> dict[str, JsonValue]:
    """The data as the scenario has it, and the hash by which those that the run was begun with are known
    again (prediction/parts.py)."""
    told: dict[str, JsonValue] = scenario.data.model_dump(mode="json")
    begun = runs.trained_on(out)
    return told | {"sha256": begun.tables} if begun and begun.tables else told


def _values(thresholds: tuple[Estimate, ...]) -> list[float]:
    return [estimate.value for estimate in thresholds]


def _together(by_site: dict[str, Predictions]) -> Predictions:
    return Predictions.together(list(by_site.values()))


def _arms(
    plan: Plan,
    tested: dict[str, dict[str, Predictions]],
    by_site: dict[str, SiteResult],
    own: Thresholds,
    evaluation: Evaluation | None,
) -> Arms:
    test = _together(tested[FEDERATED])
    mean = Mean(auroc=mean_auroc(site.federated for site in by_site.values()))
    federated = judge(test, plan, _values(own[FEDERATED]))
    centralised = _together(tested[CENTRALISED]) if CENTRALISED in tested else None
    alone = [site.local_only for site in by_site.values() if site.local_only]
    return Arms(
        federated=replace(federated, mean=mean, calibrated=calibrated(test, plan, evaluation)),
        local_only=Alone(mean=Mean(auroc=mean_auroc(alone))) if alone else None,
        centralised=judge(centralised, plan, _values(own[CENTRALISED])) if centralised else None,
    )


def matrix(tested: dict[str, dict[str, Predictions]]) -> dict[str, dict[str, float]]:
    """Model -> hospital -> AUROC on that hospital's test patients (the mean over findings); NaN where only
    one class is there."""
    return {arm: {n: macro_auroc(p) for n, p in at.items()} for arm, at in tested.items()}


def _assess_site(
    plan: Plan, cohort: Cohort, tested: dict[str, dict[str, Predictions]], site: str, own: Thresholds
) -> SiteResult:
    split, federated = cohort.split(plan.split), tested[FEDERATED][site]
    local = tested.get(local_arm(site), {}).get(site)
    lengths = cohort.lengths
    return SiteResult(
        n_patients=len(set(cohort.patients)),
        n_sequences=len(cohort),
        n_frames=cohort.n_images,
        frames=Lengths(min=int(lengths.min()), median=float(np.median(lengths)), max=int(lengths.max())),
        split={part: cohort.count_patients(indices) for part, indices in split.items()},
        prevalence={f: float(np.nanmean(cohort.labels[:, k])) for k, f in enumerate(plan.findings)},
        scanners=sorted(set(cohort.scanners)),
        skipped=cohort.tally.left_out(),
        federated=judge(federated, plan, _values(own[FEDERATED])),
        local_only=judge(local, plan, _values(own[local_arm(site)])) if local else None,
        gain=gain(federated, local, plan) if local else None,
    )
