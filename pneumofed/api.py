"""pneumofed from Python: open a model, predict and judge by it, simulate a federation, read a run.

What the commands do, without a terminal; errors are `PneumofedError`s whose text is one line that says what
was found, what was expected, and what to do. `import pneumofed` itself imports nothing heavy.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from common.errors import PneumofedError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from client.prediction.predict import Prediction
    from common.handover import Handed
    from common.plan import Plan
    from common.results.evaluation import EvaluationResult
    from common.results.rounds import History
    from common.results.run import RunResult

__all__ = ["Model", "PneumofedError", "Predicted", "Run", "open_model", "open_run", "simulate"]


@dataclass(frozen=True)
class Predicted:
    """What `Model.predict` says of the sequences of a source."""

    predictions: "list[Prediction]"  # a sequence each, sorted by patient; probabilities are calibrated
    refused: Mapping[str, str]  # patient -> why the images were not judged
    left_out: Mapping[str, int]  # reason -> files that were not used


class Model:
    """A model that was handed over, or of a simulated run; or one of others (model.onnx, contract.yaml).
    Made by `open_model`. Research use, not a medical device."""

    def __init__(self, handed: "Handed", device: "torch.device", site: Path | None) -> None:
        from client.prediction.model import load_model
        from client.settings import SiteFolder

        self._handed, self._device = handed, device
        self._site = SiteFolder(site) if site else None
        self._network = load_model(handed, device, self._site)

    @property
    def plan(self) -> "Plan":
        """What it was trained under; its `input` is what images must look like."""
        return self._handed.plan

    @property
    def threshold(self) -> float | None:
        """On the first finding's probability before calibration; None if nobody chose one."""
        return self.thresholds.get(self.plan.findings[0])

    @property
    def thresholds(self) -> Mapping[str, float]:
        """Of each finding, likewise; without those for which nobody chose one."""
        return self._handed.thresholds

    @property
    def network(self) -> "nn.Module":
        """The PyTorch module: (frames, gaps, lengths) -> logits (N, K). See common/models."""
        return self._network

    def predict(self, source: str | Path) -> Predicted:
        """Of every sequence of a cohort's folder, DICOM files, images with index.csv, or an .npz.

        Raises:
            DataError: there is no sequence that the model takes; says what there is instead.
        """
        from client.imaging.outcome import Tally
        from client.prediction.cases import Refusal
        from client.prediction.predict import predict_source

        tally = Tally()
        rows = predict_source(self._handed, self._network, Path(source), self._device, tally, self._site)
        return Predicted(
            [row for row in rows if not isinstance(row, Refusal)],
            {row.patient: row.why for row in rows if isinstance(row, Refusal)},
            tally.left_out(),
        )

    def evaluate(
        self,
        on: str | Path,
        *,
        labels: str | Path | None = None,
        part: Literal["test", "validation", "all"] = "test",
        against: "Model | None" = None,
    ) -> "EvaluationResult":
        """AUROC, calibration, curves and subgroups of each finding, with 95 % intervals, on labelled
        patients; training patients of the run only where `part` is "all".

        Raises:
            DataError: there are no labelled patients that the model takes, or of one class only.
        """
        from client.prediction.judging.evaluate import Wish, evaluate
        from client.prediction.judging.labelled import Place

        place = Place(Path(on), Path(labels) if labels else None, self._site)
        return evaluate(
            self._handed, against._handed if against else None, place, Wish(part=part), self._device
        )


@dataclass(frozen=True)
class Run:
    """A finished simulated run, or a deployed one whose hospitals told their final scores."""

    folder: Path
    result: "RunResult"  # metrics.json: every number with its interval

    @property
    def histories(self) -> "Mapping[str, History]":
        """Arm -> its rounds; of a deployed run "federated" alone."""
        from common.results.rounds import FILE, read_history

        if (self.folder / FILE).is_file():
            return {"federated": read_history(self.folder)}
        from common.config import load_yaml
        from common.plan import Plan
        from server.checkpoint import load_checkpoint

        found = {}
        for place in sorted((self.folder / "arms").iterdir()):
            own = place / "plan.yaml"  # of an arm that trains under another than the run's
            plan = load_yaml(own if own.is_file() else self.folder / "plan.yaml", Plan)
            if checkpoint := load_checkpoint(place, plan.sha256):
                found[place.name] = checkpoint.history
        return found

    def model(self, device: str = "cpu") -> Model:
        """The federated one. Raises ConfigError: as `open_model`."""
        return open_model(self.folder, device)


def open_model(folder: str | Path, device: str = "cpu", site: str | Path | None = None) -> Model:
    """A model from the folder that was handed over (`pneumofed server export`), or from a simulated run's.

    Args:
        device: "auto", "cpu", "cuda" or "cuda:n".
        site: the folder of a hospital that took part, for what its method keeps there.

    Raises:
        ConfigError: a file is missing or is not what the card says; or the device is not there.
    """
    from client.compute.device import choose_device
    from common.handover import read_model

    return Model(read_model(Path(folder)), choose_device(device), Path(site) if site else None)


def open_run(folder: str | Path) -> Run:
    """A run that is finished. Raises RunError if it is not, or is of another version."""
    from common.results.run import read_result

    return Run(Path(folder), read_result(Path(folder)))


def simulate(
    scenario: str | Path | Mapping[str, Any] | None = None,
    out: str | Path = "run",
    *,
    values: Mapping[str, Any] | None = None,
) -> Run:
    """Simulate a federation on this machine, as `pneumofed simulate` does: federated, each hospital alone,
    and centralised. A run that is in `out` already goes on where it was; a finished one is only read.

    Args:
        scenario: a plan's file, its values as a mapping, or None for the quickstart.
        values: other values than the scenario's, by their keys with dots: {"training.learning_rate": 0.05}.

    Raises:
        ConfigError: a key or a value is wrong.
        RunError: `out` holds another run, or fewer sites than the quorum gave an update.
    """
    from simulation import runs
    from simulation.cli import QUICKSTART
    from simulation.scenario import read_scenario
    from simulation.simulate import simulate as run_all

    folder = Path(out)
    with runs.held(folder):
        given = read_scenario(QUICKSTART if scenario is None else scenario, values or {})
        runs.start_or_resume(folder, given)
        if not runs.is_finished(folder):
            run_all(given, folder, _silently)
    return open_run(folder)


def _silently(_arm: str) -> Any:
    from server.observer import Silent

    return Silent()
