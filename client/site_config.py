"""What a site's ClientApp is told of its site: one value, and its one way to and from Flower's node
configuration."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from client.governance.ledger import Budget
from common.errors import ConfigError

NodeConfig = Mapping[str, str | int | float | bool]
PATHS = "ledger", "memory", "alone", "pretrained", "identity", "peers"
KEYS = (
    "site", "cohorts", "plan", "device", "min-patients", *PATHS, "budget-epsilon", "budget-delta", "hostile",
)  # fmt: skip


@dataclass(frozen=True)
class SiteConfig:
    """One site, as its ClientApp sees it."""

    site: str
    cohorts: tuple[Path, ...]
    plan: Path  # the approved plan's file
    device: str = "auto"
    min_patients: int = 0  # the site's own minimum
    ledger: Path | None = None  # for plans with privacy
    memory: Path | None = None  # folder for what methods keep at the site
    budget: Budget | None = None
    alone: Path | None = (
        None  # folder of the model that the site trains by itself, where the plan asks for it
    )
    pretrained: Path | None = None  # the file that the plan starts from, where the site has it
    identity: Path | None = None  # the site's key, for plans with secure aggregation
    peers: Path | None = None  # the file of the hospitals that it counts on
    hostile: float | None = None  # simulation/hostile.py's; an honest site does not look at it

    def to_node(self) -> dict[str, str | int | float | bool]:
        """For Flower; what is left out is as above."""
        node: dict[str, str | int | float | bool] = {
            "site": self.site,
            "cohorts": json.dumps([str(folder.resolve()) for folder in self.cohorts]),
            "plan": str(self.plan.resolve()),
            "device": self.device,
            "min-patients": self.min_patients,
        }
        node |= {key: str(path.resolve()) for key in PATHS if (path := getattr(self, key)) is not None}
        if self.budget is not None:
            node |= {"budget-epsilon": self.budget.epsilon, "budget-delta": self.budget.delta}
        if self.hostile is not None:
            node["hostile"] = self.hostile
        return node

    @classmethod
    def from_node(cls, node: NodeConfig) -> "SiteConfig":
        """From Flower. Raises ConfigError for a key that is missing or not one of KEYS."""
        if unknown := sorted(node.keys() - set(KEYS)):
            raise ConfigError(
                f"node configuration: {unknown[0][:40]!r}: unknown key; known are {', '.join(KEYS)}"
            )
        if missing := [key for key in ("site", "cohorts", "plan") if key not in node]:
            raise ConfigError(f"node configuration: {missing[0]}: missing")
        return cls(
            site=str(node["site"]),
            cohorts=tuple(map(Path, _folders(str(node["cohorts"])))),
            plan=Path(str(node["plan"])),
            device=str(node.get("device", "auto")),
            min_patients=int(node.get("min-patients", 0)),
            **{key: Path(str(node[key])) for key in PATHS if key in node},
            budget=Budget(float(node["budget-epsilon"]), float(node["budget-delta"]))
            if "budget-epsilon" in node
            else None,
            hostile=float(node["hostile"]) if "hostile" in node else None,
        )


def _folders(text: str) -> list[str]:
    """A JSON list, as `to_node` writes it: a folder's name may hold anything. Or as a person types them into
    a node configuration, parted as in PATH."""
    return json.loads(text) if text.startswith("[") else text.split(os.pathsep)
