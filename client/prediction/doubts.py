"""Labels that a trained model doubts most: where one is wrong, this is where to look first.

By the model's own loss (as in Northcutt et al., 2021, "Confident Learning"): of a patient whom it was trained
on it has learnt the label in part by heart, so that the part is said.
"""

from pathlib import Path

import numpy as np
import torch

from client.imaging.quality.facts import Doubt
from client.prediction.cases import open_cohort
from client.prediction.model import load_model
from client.prediction.parts import Parts
from client.settings import SiteFolder
from client.training.evaluate import predict_logits
from common.calibration import calibrated
from common.errors import DataError
from common.handover import Handed

MOST = 24


def doubts(handed: Handed, place: Path, site: SiteFolder | None, device: torch.device) -> list[Doubt]:
    """Labels of a cohort that the model holds for less likely than not, the least likely first; at most MOST.

    Raises:
        DataError: the model takes other images, or knows none of the cohort's findings.
    """
    cohort = open_cohort(handed, place)
    known = [finding for finding in cohort.findings if finding in handed.plan.findings]
    if not known:
        raise DataError(
            f"{handed.folder}: knows {', '.join(handed.plan.findings)}; the labels tell of "
            f"{', '.join(cohort.findings)}"
        )
    z = predict_logits(load_model(handed, device, site), cohort, np.arange(len(cohort)), device)
    p = calibrated(z, handed.temperature)
    parts = Parts.of(handed, place, site)
    found = []
    for finding in known:
        label = cohort.labels[:, cohort.findings.index(finding)]
        yes = p[:, handed.plan.findings.index(finding)]
        odds = np.where(np.isnan(label), 1.0, np.where(label == 1, yes, 1.0 - yes))
        for i in np.flatnonzero(odds < 0.5):
            part = parts.of_pseudonym(str(cohort.patients[i]))
            found.append((float(odds[i]), Doubt(int(i), finding, float(yes[i]), part)))
    return [doubt for _, doubt in sorted(found, key=lambda one: one[0])[:MOST]]
