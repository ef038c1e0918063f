"""Would you train on this? One line from the counts, and what to look at first."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from client.imaging.cohort import Cohort
from client.imaging.outcome import NOTES, PATIENT_REASONS, Reason
from client.imaging.quality.greys import FAR, Greys
from common.plan import Plan

Word = Literal["yes", "look first", "no"]
LOST = 0.1
"""Share of the labelled patients without a usable image from which somebody should ask why."""
NOTED = 0.1
"""Share of the images that carry one note from which somebody should look at them."""
ON_A_SIDE = 10
"""Patients of a class in training below which a model learns who they are."""


@dataclass(frozen=True)
class Verdict:
    """The word, and why."""

    word: Word
    why: list[str]

    @property
    def line(self) -> str:
        return f"Would you train on this? {self.word.capitalize()}: {'; '.join(self.why)}."


def judge(cohort: Cohort, plan: Plan, shared: int, blank: int, greys: Mapping[str, Greys]) -> Verdict:
    """`shared` images under two patients, `blank` images, and grey values by scanner."""
    if against := _against(cohort, plan):
        return Verdict("no", against)
    if doubts := [*_doubts(cohort), *_doubts_of_pixels(shared, blank, greys)]:
        return Verdict("look first", doubts)
    n = len(set(cohort.patients))
    return Verdict("yes", [f"{n} patients, {len(cohort)} sequences, and nothing that stands out"])


def _against(cohort: Cohort, plan: Plan) -> list[str]:
    train = cohort.split(plan.split)["train"]
    n, why = cohort.count_patients(train), []
    if n < plan.min_patients:
        why.append(f"{n} training patients, the plan asks for {plan.min_patients}")
    for k, finding in enumerate(cohort.findings):
        labels = cohort.labels[train, k]
        of_class = [len(set(cohort.patients[train[labels == value]])) for value in (0, 1)]
        if 0 in of_class:
            why.append(f"{finding}: {of_class[1]} training patients have it, {of_class[0]} have it not")
    return why


def _doubts(cohort: Cohort) -> list[str]:
    why, counts = [], cohort.tally.counts
    lost = sum(counts[r] for r in PATIENT_REASONS if r not in (*NOTES, Reason.UNLABELLED, Reason.FORGOTTEN))
    n = len(set(cohort.patients))
    if lost > LOST * (lost + n):
        why.append(f"{lost} of {lost + n} labelled patients have no usable images (left out, below)")
    images = cohort.n_images
    why += [
        f"{counts[r]} of {images} images: {r.value}"
        for r in NOTES
        if r not in PATIENT_REASONS and counts[r] > NOTED * images
    ]
    for k, finding in enumerate(cohort.findings):
        fewer = min(len(set(cohort.patients[cohort.labels[:, k] == value])) for value in (0, 1))
        if fewer < ON_A_SIDE:
            why.append(f"{finding}: only {fewer} patients in the smaller class")
    return why


def _doubts_of_pixels(shared: int, blank: int, greys: Mapping[str, Greys]) -> list[str]:
    why = []
    if shared:
        why.append(f"{shared} images with the same pixels under two patients")
    if blank:
        why.append(f"{blank} blank images")
    far = [name for name, one in greys.items() if one.distance is not None and one.distance > FAR]
    if far:
        why.append(f"grey values unlike the other scanners': {', '.join(far[:3])}")
    if any(one.cut_off > 0.5 for one in greys.values()):
        images = sum(one.images for one in greys.values())
        share = sum(one.cut_off * one.images for one in greys.values()) / images
        why.append(f"{100 * share:.0f} % of the images lie mostly at the ends of the greys: a wrong window?")
    return why
