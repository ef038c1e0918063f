"""Curves for people who look at TensorBoard or MLflow: files alone, written while something trains.

Both are extras, and off by default. Nothing is sent anywhere: TensorBoard's event files lie in a folder,
MLflow's runs in one SQLite file.
"""

import logging
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Literal, Protocol

from common.errors import ConfigError

log = logging.getLogger("pneumofed.curves")

Kind = Literal["tensorboard", "mlflow"]
FILE = "mlflow.db"


class Board(Protocol):
    """Takes numbers by name; `step` is the round."""

    def put(self, numbers: Mapping[str, float], step: int) -> None: ...

    def close(self) -> None: ...


@contextmanager
def open_boards(
    kinds: Iterable[Kind], folder: Path, run: str, facts: Mapping[str, str], done: int = 0
) -> Iterator[list[Board]]:
    """Boards below `folder` for one run, whose first `done` rounds are there already; `facts` stand beside
    its curves. One that cannot be written any more is said once in the log, and costs nothing else.

    Raises:
        ConfigError: an extra is not installed.
    """
    with ExitStack() as stack:
        boards = [_Lasting(_open(kind, folder, run, facts, done), kind) for kind in kinds]
        yield [stack.enter_context(closing(board)) for board in boards]


def _open(kind: Kind, folder: Path, run: str, facts: Mapping[str, str], done: int) -> Board:
    try:
        return (_TensorBoard if kind == "tensorboard" else _Mlflow)(folder, run, facts, done)
    except ModuleNotFoundError as e:
        raise ConfigError(
            f"curves: {kind}: {e.name} is not installed; install the extra: uv sync --extra {kind}"
        ) from None


class _Lasting:
    """A board whose troubles (a full disk, a library's own) end its curves, and nothing that is trained."""

    def __init__(self, board: Board, kind: Kind) -> None:
        self._board, self._kind, self._broken = board, kind, False

    def put(self, numbers: Mapping[str, float], step: int) -> None:
        if not self._broken:
            self._try(lambda: self._board.put(numbers, step))

    def close(self) -> None:
        self._try(self._board.close)

    def _try(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as e:
            self._broken = True
            log.error("curves for %s are not written any more: %s", self._kind, type(e).__name__)


class _TensorBoard:
    def __init__(self, folder: Path, run: str, facts: Mapping[str, str], done: int) -> None:
        from tensorboardX import SummaryWriter

        again = {"purge_step": done + 1} if done else {}  # rounds that a crash left half done
        place, own = str(folder / "tensorboard" / run), f".{done}"  # a name holds seconds: it may be taken
        self._writer = SummaryWriter(place, filename_suffix=own, **again)
        self._writer.add_text("facts", "  \n".join(f"{k}: {v}" for k, v in facts.items()), 0)

    def put(self, numbers: Mapping[str, float], step: int) -> None:
        for name, value in numbers.items():
            if math.isfinite(value):
                self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class _Mlflow:
    def __init__(self, folder: Path, run: str, facts: Mapping[str, str], done: int) -> None:
        # It reports its use to its makers otherwise: a hospital's machine tells nobody anything.
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = os.environ["DO_NOT_TRACK"] = "true"
        from mlflow.tracking import MlflowClient

        folder.mkdir(parents=True, exist_ok=True)
        self._client = MlflowClient(tracking_uri=f"sqlite:///{(folder / FILE).resolve()}")
        experiment = self._client.get_experiment_by_name("pneumofed")
        where = experiment.experiment_id if experiment else self._client.create_experiment("pneumofed")
        known = self._client.search_runs([where], f"attributes.run_name = '{run}'") if done else []
        self._run = (known[0] if known else self._client.create_run(where, run_name=run)).info.run_id
        for name, value in facts.items() if not known else ():
            self._client.log_param(self._run, name, value)

    def put(self, numbers: Mapping[str, float], step: int) -> None:
        for name, value in numbers.items():
            if math.isfinite(value):
                self._client.log_metric(self._run, name, value, step=step)

    def close(self) -> None:
        self._client.set_terminated(self._run)
