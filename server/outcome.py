"""A deployed run's result, as a simulation has it: each hospital's own scores, and the federation's from
patients that are spread as the hospitals' cells say (common/spread.py)."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from common import wire
from common.arms import FEDERATED, local_arm
from common.curves import details
from common.plan import Plan
from common.results.final import Crossed, FinalAnswer, FinalReport
from common.results.rounds import Evaluation
from common.results.run import Alone, Arms, Group, Mean, RunResult, SiteResult, Timing, Traffic, Verdict
from common.results.survey import Survey
from common.scores import (
    Predictions,
    calibrated,
    confusion,
    judge,
    macro_auroc,
    mean_auroc,
    reliability,
    subgroups,
    thresholds_with_intervals,
)
from common.spread import Spread
from common.versions import versions
from server.checkpoint import Checkpoint

ENGINE = "deployment"
MOST_NUMBERS = 50_000_000
"""Resamples times sequences: 400 MB."""


def outcome(plan: Plan, final: FinalReport, run: Checkpoint, survey: Survey | None) -> RunResult:
    """What metrics.json of a deployed run holds. There must be an answer."""
    agreed, history = plan.sha256, run.history
    answers, chosen = final.sites, run.chosen(plan)
    test = {name: _rebuilt(name, answer.test, plan) for name, answer in answers.items()}
    pooled = Predictions.together(list(test.values()))
    plan = _affordable(plan, len(pooled.patients))
    validation = Predictions.together(
        [_rebuilt(name, answer.validation, plan) for name, answer in answers.items()]
    )
    estimates = thresholds_with_intervals(validation, plan, None)
    thresholds = [estimate.value for estimate in estimates]
    known = _own_pairs(plan, test, answers)
    sites = {
        name: _site(plan, name, answer, test[name], thresholds, survey) for name, answer in answers.items()
    }
    return RunResult(
        name=plan.name,
        seed=plan.seed,
        rounds=run.round,  # patience may have ended them
        chosen=chosen.round if plan.evaluation.select == "best" else None,
        plan_sha256=agreed,
        findings=plan.findings,
        test=_arms(plan, pooled, sites, thresholds, chosen.evaluation, known),
        confusion=confusion(pooled, thresholds[0], interval=estimates[0].known_interval),
        calibration=reliability(pooled),
        details=details(pooled, estimates, plan),
        subgroups=(groups := _subgroups(plan, answers)),
        told_subgroups=_told_subgroups(groups, final),
        matrix=_matrix(answers, final.crossed),
        sites=sites,
        bytes=Traffic(up=sum(r.bytes_up for r in history), down=sum(r.bytes_down for r in history)),
        skipped_files=0,
        skipped={},
        device=", ".join(sorted(_devices(survey))) or "unknown",
        engine=ENGINE,
        data={},
        versions=versions(),
        timing=Timing(
            train_s=float(np.nansum([n[wire.SECONDS] for r in history for n in r.sites.values()])),
            rounds_s=sum(r.seconds for r in history),
            total_s=sum(r.seconds for r in history),
        ),
        silent=final.silent or None,
        not_crossed=(final.crossed and final.crossed.silent) or None,
    )


def _affordable(plan: Plan, n: int) -> Plan:
    """With as many resamples of `n` sequences as MOST_NUMBERS allow: fewer, where they are many and matter
    less."""
    draws = min(plan.evaluation.bootstrap, max(100, MOST_NUMBERS // max(1, n)))
    fewer = plan.evaluation.model_copy(update={"bootstrap": draws})
    return plan.model_copy(update={"evaluation": fewer})


def _rebuilt(place: str, spreads: Mapping[str, Spread], plan: Plan) -> Predictions:
    """Sequences that are spread so; each has one finding, and every one counts as a patient."""
    several = [spreads[finding].rebuilt() for finding in plan.findings]
    n = sum(len(p) for p, _ in several)
    probabilities = np.full((n, len(plan.findings)), 0.5)
    labels = np.full((n, len(plan.findings)), np.nan, np.float32)
    start = 0
    for k, (p, y) in enumerate(several):
        rows = slice(start, start + len(p))
        probabilities[rows, k], labels[rows, k], start = p, y, rows.stop
    return Predictions(probabilities, labels, np.array([f"{place}:{i}" for i in range(n)], dtype=np.str_), {})


def _site(
    plan: Plan,
    name: str,
    answer: FinalAnswer,
    test: Predictions,
    thresholds: Sequence[float],
    survey: Survey | None,
) -> SiteResult:
    """The hospital's own numbers; its accuracy at the federation's thresholds, from its cells."""
    told = survey.sites.get(name, {}) if survey else {}
    counts = {part: _count(told, key) for part, key in _PARTS.items()}
    known = [n for n in counts.values() if n is not None]
    return SiteResult(
        n_patients=sum(known) if len(known) == len(counts) else None,
        split={part: n for part, n in counts.items() if n is not None},
        prevalence={finding: _share(answer.test[finding]) for finding in plan.findings},
        scanners=(),
        skipped={},
        federated=_at(answer.federated, judge(test, plan, thresholds)),
        local_only=answer.alone,
        gain=answer.gain,
    )


def _matrix(answers: Mapping[str, FinalAnswer], crossed: Crossed | None) -> dict[str, dict[str, float]]:
    """Model -> hospital -> AUROC on its test patients, as of a simulation; empty if no models crossed."""
    if crossed is None:
        return {}
    own = {name: answer.alone.auroc if answer.alone else math.nan for name, answer in answers.items()}
    rows = {
        local_arm(name): dict.fromkeys(answers, math.nan) | {name: own[name]} | dict(judged)
        for name, judged in crossed.auroc.items()
    }
    return {FEDERATED: {name: answer.federated.auroc for name, answer in answers.items()}, **rows}


_PARTS = {"train": wire.N_TRAIN, "validation": wire.N_VALIDATION, "test": wire.N_TEST}


def _count(told: Mapping[str, float | str], key: str) -> int | None:
    value = told.get(key, math.nan)
    return int(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def _share(spread: Spread) -> float:
    """Of the test sequences, those with the finding."""
    positive, total = sum(c.n for c in spread.positive), sum(c.n for c in spread)
    return positive / total if total else math.nan


def _at(own: Verdict, rebuilt: Verdict) -> Verdict:
    return replace(own, accuracy=rebuilt.accuracy, accuracy_ci=rebuilt.accuracy_ci)


def _arms(
    plan: Plan,
    pooled: Predictions,
    sites: Mapping[str, SiteResult],
    thresholds: Sequence[float],
    evaluation: Evaluation | None,
    known: float,
) -> Arms:
    """`known` is added to the pooled AUROC and its interval."""
    federated = judge(pooled, plan, thresholds)
    low, high = federated.auroc_ci
    alone = [site.local_only for site in sites.values() if site.local_only]
    return Arms(
        federated=replace(
            federated,
            auroc=federated.auroc + known,
            auroc_ci=(low + known, min(1.0, high + known)),
            n_patients=sum(site.federated.n_patients for site in sites.values()),
            n_sequences=sum(site.federated.n_sequences for site in sites.values()),
            mean=Mean(auroc=mean_auroc(site.federated for site in sites.values())),
            calibrated=calibrated(pooled, plan, evaluation),
        ),
        local_only=Alone(mean=Mean(auroc=mean_auroc(alone))) if alone else None,
    )


def _own_pairs(plan: Plan, test: Mapping[str, Predictions], answers: Mapping[str, FinalAnswer]) -> float:
    """By how much the pooled AUROC of rebuilt patients is off in the pairs of patients of the same hospital:
    these AUROCs are known exactly. An AUROC is a mean over pairs; that over findings is taken."""
    off = []
    for k, finding in enumerate(plan.findings):
        wrong, n_positive, n_negative = 0.0, 0, 0
        for name, p in test.items():
            own = answers[name].federated
            told = (own.findings or {}).get(finding, own).auroc
            positive, negative = (int((p.labels[:, k] == label).sum()) for label in (1, 0))
            n_positive, n_negative = n_positive + positive, n_negative + negative
            if positive and negative and math.isfinite(told):
                wrong += (told - _auroc(p, k)) * positive * negative
        if n_positive * n_negative:
            off.append(wrong / (n_positive * n_negative))
    return float(np.mean(off)) if off else 0.0


def _auroc(p: Predictions, finding: int) -> float:
    column = slice(finding, finding + 1)
    return macro_auroc(replace(p, probabilities=p.probabilities[:, column], labels=p.labels[:, column]))


def _subgroups(plan: Plan, answers: Mapping[str, FinalAnswer]) -> dict[str, dict[str, Group]]:
    """Of the hospitals that told them."""
    found: dict[str, dict[str, Group]] = {}
    for attribute in sorted({name for answer in answers.values() for name in answer.subgroups}):
        told = [
            (_rebuilt(f"{site}:{group}", spreads, plan), group, spreads)
            for site, answer in answers.items()
            for group, spreads in answer.subgroups.get(attribute, {}).items()
        ]
        parts = [
            replace(part, attributes={attribute: np.full(len(part.patients), group, dtype=np.str_)})
            for part, group, _ in told
        ]
        for group, judged in subgroups(Predictions.together(parts), plan).get(attribute, {}).items():
            n_patients = sum(_patients(spreads) for _, name, spreads in told if name == group)
            found.setdefault(attribute, {})[group] = replace(judged, n_patients=n_patients)
    return found


def _told_subgroups(groups: Iterable[str], final: FinalReport) -> dict[str, list[str]] | None:
    """Of each attribute which hospitals, where not all of them: many keep small groups back."""
    told = {
        attribute: [site for site, answer in final.sites.items() if attribute in answer.subgroups]
        for attribute in groups
    }
    n = len(final.sites) + len(final.silent)
    return told if any(len(sites) < n for sites in told.values()) else None


def _patients(spreads: Mapping[str, Spread]) -> int:
    return max(sum(cell.n_patients for cell in spread) for spread in spreads.values())


def _devices(survey: Survey | None) -> Iterable[str]:
    return {str(told[wire.DEVICE]) for told in survey.sites.values() if wire.DEVICE in told} if survey else ()
