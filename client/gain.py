"""`pneumofed client gain`: the federation's model against the hospital's own, on the hospital's own test
patients."""

from dataclasses import replace
from pathlib import Path

import torch

from client.alone import Alone
from client.compute.device import choose_device, set_up_process
from client.imaging.cohort import Cohort, require_trainable
from client.prediction.judging.evaluate import Wish, evaluate
from client.prediction.judging.labelled import Place
from client.settings import SiteFolder
from common.credentials import common_name, read_certificate
from common.errors import ConfigError, DataError
from common.handover import UNSIGNED, read_model, read_signed
from common.plan import Plan
from common.results.evaluation import EvaluationResult
from common.text import printable, quoted

ALONE = "this hospital alone"


def gain_of(site: SiteFolder, model: Path, pretrained: Path | None) -> EvaluationResult:
    """Trains what is left to train, and judges both.

    Raises:
        ConfigError: the model's signature does not count, or the plan starts from a file that was not given.
        DataError: the site has no cohort for the model's contract, or too few patients to train or judge on.
        RunError: the policy's hours are over; the same command goes on from there.
    """
    settings = site.settings()
    handed, signer = read_signed(model, site.ca, site.revoked)
    if handed.foreign is not None:
        raise ConfigError(
            f"{model}: others made it: no hospital would have trained it alone; pneumofed evaluate judges it"
        )
    cohort = site.cohort(handed.plan)
    if not cohort.is_dir():
        raise DataError(
            f"{cohort}: no cohort for this model; run: pneumofed client ingest {quoted(model / 'plan.yaml')}"
        )
    set_up_process(settings.threads)
    device = choose_device(settings.device)
    alone = read_model(
        _own(site, cohort, handed.plan, device).train(handed.plan, settings.policy, pretrained)
    )
    found = evaluate(handed, alone, Place(cohort, site=site), Wish(own=True), device)
    unsigned = [] if signer else [UNSIGNED]
    return replace(found, against=ALONE, on=_name(site), warnings=[*found.warnings, *unsigned])


def _name(site: SiteFolder) -> str:
    return printable(common_name(read_certificate(site.certificate)))


def _own(site: SiteFolder, folder: Path, plan: Plan, device: torch.device) -> Alone:
    cohort, name = Cohort.open(folder), _name(site)
    require_trainable(cohort, plan.split, max(plan.min_patients, site.settings().policy.min_patients), name)
    return Alone(name, cohort, site.alone(plan), device)
