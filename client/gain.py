"""`pneumofed client gain`: the federation's model against the hospital's own, on the hospital's own test
patients."""

from dataclasses import replace
from pathlib import Path

from client.alone import train_alone
from client.compute.device import choose_device, set_up_process
from client.prediction.judging.evaluate import Wish, evaluate
from client.prediction.judging.labelled import Place
from client.settings import SiteFolder
from common.errors import DataError
from common.handover import read_model, verify_model
from common.results.evaluation import EvaluationResult
from common.signature import SIGNATURE, Authority

ALONE = "this hospital alone"


def gain_of(site: SiteFolder, model: Path, pretrained: Path | None) -> EvaluationResult:
    """Trains what is left to train, and judges both.

    Raises:
        ConfigError: the model's signature does not count, or the plan starts from a file that was not given.
        DataError: the site has no cohort for the model's contract, or it cannot be judged on it.
        RunError: the policy's hours are over; the same command goes on from there.
    """
    settings = site.settings()
    if (model / SIGNATURE).is_file():
        verify_model(model, Authority.read(site.ca, site.revoked))
    handed = read_model(model)
    cohort = site.cohort(handed.plan)
    if not cohort.is_dir():
        raise DataError(
            f"{cohort}: no cohort for this model; run: pneumofed client ingest {model / 'plan.yaml'}"
        )
    set_up_process(settings.threads)
    alone = read_model(train_alone(site, handed.plan, pretrained))
    found = evaluate(handed, alone, Place(cohort, site=site), Wish(own=True), choose_device(settings.device))
    return replace(found, against=ALONE)
