"""What the sites say of their training patients, pooled: the coordinator's look at the data before round
1."""

import math
from collections.abc import Mapping
from typing import Any

from common import wire

About = Mapping[str, Mapping[str, float | str]]


def pool(about: About, findings: tuple[str, ...]) -> dict[str, dict[str, int]]:
    """Number -> patients in all, and how many sites told it. A site withholds what too few patients are
    behind (NaN)."""
    pooled = {}
    for name in wire.query_numbers(findings):
        told = [float(site[name]) for site in about.values() if not math.isnan(float(site[name]))]
        pooled[name] = {"patients": int(sum(told)), "sites": len(told)}
    return pooled


def describe(about: About, findings: tuple[str, ...]) -> dict[str, Any]:
    """For survey.json: the pooled numbers and each site's own."""
    return {
        "pooled": pool(about, findings),
        "sites": {site: dict(numbers) for site, numbers in sorted(about.items())},
    }


def table(found: Mapping[str, Any]) -> list[str]:
    """Lines for a terminal."""
    n = len(found["sites"])
    lines = [f"{'':<28}{'patients':>10}  told by (of {n} sites)"]
    for name, one in found["pooled"].items():
        patients = str(one["patients"]) if one["sites"] else "withheld"
        lines.append(f"{WORDS.get(name, name.replace(':', ': ')):<28}{patients:>10}  {one['sites']}")
    return lines


WORDS = {
    wire.N_TRAIN: "training", wire.N_VALIDATION: "validation", wire.N_TEST: "test",
    **{name: f"training, {name.removeprefix('length-')} images" for name in wire.LENGTHS},
}  # fmt: skip
