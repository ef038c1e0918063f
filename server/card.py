"""What is known of a finished run, as the card of its model; and nothing that is not known."""

import datetime
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TypedDict

from common import wire
from common.handover import RESEARCH_USE
from common.methods import Stays
from common.plan import Plan
from common.results.card import Card, DeployedSite, OnTest, OnValidation, Privacy, TestedSite
from common.results.form import Interval
from common.results.rounds import Evaluation, History, PrivateScores, read_history, trained
from common.results.run import FILE as RESULT
from common.results.run import (
    Bin,
    Group,
    RunResult,
    calibration_of,
    read_result,
    threshold_intervals_of,
    thresholds_of,
)
from common.results.status import FILE as RECORD
from common.results.status import read_record
from common.results.survey import FILE as SURVEY
from common.results.survey import Survey, read_survey
from common.selection import chosen_round, verdicts_of

INTENDED_USE = (
    "Estimating, for research, the probability of the findings below from a sequence of chest images."
)


class Chosen(TypedDict):
    """Thresholds, and how sure they and the temperature are."""

    threshold: float
    thresholds: Mapping[str, float] | None
    thresholds_ci: Mapping[str, Interval] | None
    temperature_ci: Interval | None


class Known(Chosen):
    """The part of a card that hangs on how the run was made."""

    sites: Mapping[str, TestedSite | DeployedSite]
    metrics: OnTest | OnValidation
    subgroups: Mapping[str, Mapping[str, Group]]
    told_subgroups: Mapping[str, Sequence[str]] | None
    temperature: float
    chosen: int | None
    calibration: Mapping[str, Sequence[Bin]] | None
    cohorts: Mapping[str, str] | None


def describe(run: Path, plan: Plan, files: Mapping[str, str]) -> Card:
    """The card of the run in a folder, a simulated or a deployed one; `files` as in the card.

    Raises:
        RunError: what the run left is of another version.
    """
    simulated = not (run / RECORD).is_file()
    survey = read_survey(run) if (run / SURVEY).is_file() else None
    judged = simulated or (run / RESULT).is_file()
    history = () if simulated else read_history(run)
    result = read_result(run) if judged else None
    known = of_result(result, history, survey) if result else of_deployment(plan, history, survey)
    if plan.strategy.method.judges_own:
        known = _of_own_models(known)
    return Card(
        name=plan.name,
        run="simulation" if simulated else read_record(run).run,
        kind="simulation" if simulated else "deployment",
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        use=RESEARCH_USE,
        intended_use=INTENDED_USE,
        limits=_limits(plan, simulated),
        plan_sha256=plan.sha256,
        findings=plan.findings,
        input=plan.input.model_dump(mode="json"),
        model=plan.model.model_dump(mode="json"),
        strategy=plan.strategy.model_dump(mode="json"),
        rounds=len(history) or (result.rounds if result else plan.rounds),  # patience may have ended them
        privacy=_privacy(plan),
        versions={name: version(name) for name in ("pneumofed", "flwr", "torch", "onnx", "onnxruntime")},
        files=files,
        **known,
    )


def _limits(plan: Plan, simulated: bool) -> list[str]:
    contract = plan.input
    lengths = f"{contract.min_frames} to {contract.max_frames}"
    kind = "frontal chest X-rays" if contract.modality == "xray" else "CT of the chest"
    limits = [
        f"Only {kind}, {lengths} images; others are refused.",
        "Judged on patients of the hospitals that trained it; elsewhere it may be worse, and nobody knows by "
        "how much.",
        "Probabilities hold where the finding is as frequent as among the validation patients.",
    ]
    if contract.label == "visit":
        limits.append("It speaks of the newest visit, given those before; of nothing that is yet to come.")
    if simulated:
        limits.append("Trained in a simulation: no hospital took part.")
    if plan.model.pretrained is not None:
        limits.append(
            f"Started from weights with the SHA-256 {plan.model.pretrained[:12]}…: on whom those were "
            "trained, and with what privacy, their own card says."
        )
    stays = plan.strategy.method.stays
    if stays in (Stays.HEAD, Stays.NORMS):
        limits.append(
            f"{plan.strategy.name} leaves {stays} at the hospitals: it is used there, with theirs, and the "
            "scores above are with theirs; elsewhere these tensors are untrained."
        )
    if plan.strategy.method.judges_own:
        limits.append(
            f"{plan.strategy.name} leaves a model of its own at each hospital, and all scores here are of "
            "those: this file is the common model beside them, and nobody judged it, or chose a threshold or "
            "a temperature for it."
        )
    if plan.privacy is not None and not simulated:
        limits.append("No hospital told test scores: under a plan with privacy they stay there.")
    if plan.privacy is not None and plan.privacy.threshold:
        limits.append(
            "Threshold and temperature are from noisy counts of validation patients; where the noise drowned "
            "them there is none, and 0.5 is taken."
        )
    if plan.privacy is None:
        limits.append(
            "Trained without differential privacy: it may tell something of its training patients "
            "(docs/threat-model.md)."
        )
    return limits


def _privacy(plan: Plan) -> Privacy | None:
    if plan.privacy is None:
        return None
    return Privacy(
        epsilon=plan.privacy.epsilon,
        noise_multiplier=plan.privacy.noise_multiplier,
        delta=plan.privacy.delta,
        unit="patient",
        what="of each patient at each site, for the whole run; sites keep the account",
    )


def of_result(result: RunResult, history: History, survey: Survey | None) -> Known:
    """Judged on test patients: those of a simulation are all here; deployed hospitals told of theirs. Who
    trained and told nothing is named too: there the model is no stranger's."""
    sites = {name: _site(name, history, survey, None) for name in trained(history)} | {
        name: TestedSite(
            patients=site.n_patients, split=site.split, prevalence=site.prevalence, test=site.federated
        )
        for name, site in result.sites.items()
    }
    federated = result.test.federated
    return {
        "sites": dict(sorted(sites.items())),
        "metrics": OnTest(**{**vars(federated), "on": "test patients", "mean": None, "calibrated": None}),
        "subgroups": result.subgroups,
        "told_subgroups": result.told_subgroups,
        "threshold": result.confusion.chosen_threshold,
        "thresholds": thresholds_of(result) if len(result.findings) > 1 else None,
        "thresholds_ci": threshold_intervals_of(result),
        "temperature": result.temperature,
        "temperature_ci": calibrated.temperature_ci if (calibrated := federated.calibrated) else None,
        "chosen": result.chosen,
        "calibration": calibration_of(result),
        "cohorts": result.cohorts,
    }


def _of_own_models(known: Known) -> Known:
    """What is known of other models than the one that is handed over is said to be so; nobody uses it."""
    on = f"{known['metrics'].on}, by each hospital's own model"
    metrics = replace(known["metrics"], on=on)
    return {
        **known, "metrics": metrics, "threshold": math.nan, "thresholds": None, "thresholds_ci": None,
        "temperature": math.nan, "temperature_ci": None, "calibration": None,
    }  # fmt: skip


def of_deployment(plan: Plan, history: History, survey: Survey | None) -> Known:
    """Test patients stay at the sites: what is known are the counts that they told, and validation after the
    last round that was judged, or after the one that was chosen."""
    best = plan.evaluation.select == "best"
    number = chosen_round(plan, verdicts_of(history), len(history))
    last = next((report.evaluation for report in reversed(history[:number]) if report.evaluation), None)
    return {
        "sites": {name: _site(name, history, survey, last) for name in trained(history)},
        "metrics": OnValidation(
            on=f"validation patients, after {f'round {number}' if best else 'the last round'}",
            auroc=last.auroc if last else math.nan,
            auroc_ci=_interval(last),
            brier=last.brier if last else math.nan,
        ),
        "subgroups": {},
        "told_subgroups": None,
        **_chosen_privately(plan, last.private if last else None),
        "temperature": last.temperature if last else math.nan,
        "chosen": number if best else None,
        "calibration": None,
        "cohorts": None,
    }


def _chosen_privately(plan: Plan, private: PrivateScores | None) -> Chosen:
    """Thresholds of a run whose sites told noisy counts of their validation patients; none of others."""
    if private is None:
        return {"threshold": math.nan, "thresholds": None, "thresholds_ci": None, "temperature_ci": None}
    found = private.thresholds
    known = {f: estimate.interval for f, estimate in found.items() if estimate.known_interval}
    return {
        "threshold": found[plan.findings[0]].value,
        "thresholds": {f: estimate.value for f, estimate in found.items()} if len(found) > 1 else None,
        "thresholds_ci": known or None,
        "temperature_ci": private.temperature.known_interval,
    }


def _site(name: str, history: History, survey: Survey | None, last: Evaluation | None) -> DeployedSite:
    told = float(survey.sites.get(name, {}).get(wire.N_TRAIN, math.nan)) if survey else math.nan
    numbers = last.sites.get(name, {}) if last else {}
    return DeployedSite(
        patients=None if math.isnan(told) else int(told),
        rounds=sum(name in report.sites for report in history),
        validation={key: numbers[key] for key in _TOLD if key in numbers},
    )


_TOLD = (wire.N_EXAMPLES, wire.AUROC, wire.AUROC_SE, wire.BRIER)


def _interval(last: Evaluation | None) -> Interval:
    half = 1.96 * last.auroc_se if last else math.nan
    if last is None or not math.isfinite(last.auroc + half):
        return math.nan, math.nan
    return max(0.0, last.auroc - half), min(1.0, last.auroc + half)
