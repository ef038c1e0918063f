"""A run's survey in lines for a terminal."""

from common import wire
from common.results.survey import Survey


def table(survey: Survey) -> list[str]:
    """One line a number."""
    n = len(survey.sites)
    lines = [f"{'':<28}{'patients':>10}  told by (of {n} sites)"]
    for name, one in survey.pooled.items():
        patients = str(one.patients) if one.sites else "withheld"
        lines.append(f"{WORDS.get(name, name.replace(':', ': ')):<28}{patients:>10}  {one.sites}")
    return lines


WORDS = {
    wire.N_TRAIN: "training", wire.N_VALIDATION: "validation", wire.N_TEST: "test",
    **{name: f"training, {name.removeprefix('length-')} images" for name in wire.LENGTHS},
}  # fmt: skip
