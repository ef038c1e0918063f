"""What `pneumofed simulate` reads: a plan, and beside it where the data come from and how this machine runs
it.

The plan's hash covers the plan alone: what a hospital would approve does not depend on a researcher's
folders.
"""

import copy
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator

from client.imaging.sources import DicomFolder, ImageIndex, NpzFile, Source
from common.boards import Kind
from common.config import Positive, Settings, load_yaml, set_value, validate
from common.errors import ConfigError
from common.plan import Plan


class Partition(Settings):
    """How one data set is dealt out to hospitals, by patient."""

    sites: int = Field(default=5, ge=1, le=1000)
    alpha: Positive | None = Field(
        default=0.5, description="Dirichlet concentration of the classes; null for equal shares"
    )
    sizes: Positive | None = Field(
        default=None, description="Dirichlet concentration of the hospitals' sizes; null for equal ones"
    )


class PhantomData(Settings):
    """Synthetic hospitals (simulation/phantom.py)."""

    source: Literal["phantom"] = "phantom"
    sites: int = Field(default=3, ge=1, le=1000)
    patients: int = Field(default=100, ge=1, le=1_000_000, description="at each hospital")
    evolution: Literal["growth", "trend", "relapse"] = Field(
        default="growth",
        description="what theirs does; of trend and relapse the best reader is known",
        exclude_if=lambda value: value == "growth",  # scenarios of before keep their hash
    )
    ambiguous: float = Field(
        default=0.5, ge=0.0, le=1.0, description="share of patients that only time tells apart"
    )


class DicomData(Settings):
    """DICOM files: one folder a hospital, each with `labels.csv`; with `partition`, one data set."""

    source: Literal["dicom"] = "dicom"
    path: str
    partition: Partition | None = None


class ImageData(Settings):
    """Image files with an index CSV. Without `partition`, `path` holds one folder a hospital, each with
    `index.csv`."""

    source: Literal["images"] = "images"
    path: str
    columns: dict[str, str] = Field(
        default_factory=dict, description="our name (patient, file, day, order, label): the file's"
    )
    partition: Partition | None = None


class NpzData(Settings):
    """A MedMNIST-style .npz, dealt out to hospitals."""

    source: Literal["npz"] = "npz"
    path: str
    patients: str | None = Field(
        default=None, description="CSV: split, index, patient_id; default patient_map.csv beside it"
    )
    partition: Partition = Partition()


Data = Annotated[PhantomData | DicomData | ImageData | NpzData, Field(discriminator="source")]


class Machine(Settings):
    """How this machine runs the sites."""

    engine: Literal["sequential", "pool", "ray"] = "sequential"
    workers: int | None = Field(
        default=None, ge=1, le=1024, description="of pool and ray; default one a GPU, or one a core"
    )
    threads: int | None = Field(
        default=None, ge=1, le=1024, description="a worker's; default the cores shared equally"
    )
    device: str = "auto"
    pretrained: str | None = Field(
        default=None, description="the file that model.pretrained names by its hash"
    )
    hostile: dict[str, float] = Field(
        default_factory=dict, description="site: factor on the updates that it sends, for example -5.0"
    )
    arms: tuple[Literal["local_only", "centralised"], ...] = Field(
        default=("local_only", "centralised"),
        strict=False,
        description="what the federation is compared with",
    )
    curves: tuple[Kind, ...] = Field(
        default=(), strict=False, description="also for TensorBoard or MLflow, in curves/ of the run's folder"
    )

    @property
    def n_workers(self) -> int:
        if self.engine == "sequential":
            return 1
        return self.workers or (torch.cuda.device_count() if torch.cuda.is_available() else n_cores())

    @property
    def n_threads(self) -> int:
        return self.threads or max(1, n_cores() // self.n_workers)

    def device_of(self, node: int) -> str:
        """The device of node 1 … n: with `auto` and several GPUs, one a worker."""
        n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if self.device == "auto" and self.engine == "pool" and n_gpus > 1:
            return f"cuda:{(node - 1) % self.n_workers % n_gpus}"
        return self.device


def n_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def scenario_with(tree: dict[str, Any], values: dict[str, Any], where: str) -> "Scenario":
    """The scenario in `tree` with other values by their keys (`training.learning_rate`); `tree` stays as it
    is.

    Raises:
        ConfigError: it is not a valid one; names `where` and the key.
    """
    changed = copy.deepcopy(tree)
    for key, value in values.items():
        set_value(changed, key, value, where)
    return validate(changed, Scenario, where)


def read_scenario(given: str | Path | Mapping[str, Any], values: Mapping[str, Any]) -> "Scenario":
    """A plan's file, or its values, with other `values` by their keys.

    Raises:
        ConfigError: there is no such file, or it is not a valid one; names the key.
    """
    if isinstance(given, Mapping):
        return scenario_with(dict(given), dict(values), "the scenario")
    whole = load_yaml(Path(given), Scenario)
    return scenario_with(whole.model_dump(mode="json"), dict(values), str(given)) if values else whole


class Scenario(Plan):
    """A plan with the data and the machine to simulate it on."""

    always: ClassVar[frozenset[str]] = frozenset({"data", "simulation"})

    data: Data = PhantomData()
    simulation: Machine = Machine()

    @model_validator(mode="after")
    def _trains(self) -> "Scenario":
        if self.rounds == 0:
            raise ValueError(
                "found rounds 0, which judges a model at real hospitals; here, pneumofed evaluate does"
            )
        return self

    @model_validator(mode="after")
    def _secure_rounds_stay_in_a_process(self) -> "Scenario":
        if self.aggregation.secure and self.simulation.engine == "ray":
            raise ValueError(
                "aggregation.secure keeps a round's keys in one process a site, and ray does not: set "
                "simulation.engine pool"
            )
        if self.aggregation.secure and self.simulation.hostile:
            raise ValueError(
                "simulation.hostile changes single updates as they are sent, which aggregation.secure hides; "
                "leave one of them out"
            )
        return self

    @property
    def plan(self) -> Plan:
        return Plan.model_validate(self.model_dump(include=set(Plan.model_fields)))

    def sources(self) -> dict[str, Source]:
        """Hospital -> its data, or `""` -> the one data set that `partition` deals out. Not for a phantom.

        Raises:
            ConfigError: the path is missing or holds no hospital's folder.
        """
        data = self.data
        assert not isinstance(data, PhantomData)
        path = Path(data.path).expanduser()
        if not path.exists():
            raise ConfigError(f"data.path: {path}: no such file or folder")
        if isinstance(data, NpzData):
            return {"": NpzFile(path, Path(data.patients) if data.patients else None)}
        if data.partition is not None:
            return {"": DicomFolder(path) if isinstance(data, DicomData) else ImageIndex(path, data.columns)}
        marker = "labels.csv" if isinstance(data, DicomData) else "index.csv"
        folders = sorted(p for p in path.iterdir() if (p / marker).is_file()) if path.is_dir() else []
        if not folders:
            raise ConfigError(
                f"data.path: {path}: found no folder with a {marker}, expected one a hospital (or set "
                "data.partition)"
            )
        if isinstance(data, DicomData):
            return {f.name: DicomFolder(f) for f in folders}
        return {f.name: ImageIndex(f / marker, data.columns) for f in folders}
