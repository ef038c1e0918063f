"""What is audited: one site's cohort under one plan, from a simulated run's folder or from a hospital's
own."""

from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.numpy import load_file

from client.governance.approval import Approvals
from client.governance.ledger import Ledger
from client.governance.witness import known_ledger
from client.imaging.cohort import Cohort
from client.settings import SiteFolder
from common.arms import FEDERATED
from common.config import load_yaml
from common.errors import ConfigError, RunError
from common.methods import Stays
from common.models import build_model
from common.plan import Plan
from common.text import quoted
from common.wire import Schema, Weights
from simulation import runs
from simulation.arms import ledger_of
from simulation.scenario import Scenario
from simulation.sites import COHORTS


@dataclass(frozen=True)
class Subject:
    """One site and the plan that it trained, or would train, under."""

    site: str
    plan: Plan
    cohort: Path
    model: Weights | None
    """The trained global model, if it is at hand."""
    ledger: Path

    def open(self, *more: Path) -> Cohort:
        """The site's cohort, with the patients of further cohort folders."""
        return Cohort.open(self.cohort, *more)

    def spent(self) -> list[tuple[float, float, int]]:
        """The steps in the site's ledger; empty without one."""
        return list(Ledger(self.ledger).history()) if self.ledger.exists() else []


def find_subject(where: Path, site: str | None, plan: str | None, model: Path | None) -> Subject:
    """The subject in `where`.

    Args:
        where: a simulated run's folder, or a hospital's.
        site: of a simulated run; its first one if None.
        plan: start of the hash of a plan that the hospital knows.
        model: model.safetensors of the trained global model; a simulated run has its own.

    Raises:
        RunError, ConfigError: there is no such site, plan or model.
        DataError: the hospital's ledger is lost, or an older copy.
    """
    if (where / runs.SCENARIO).is_file():
        return _attackable(_simulated(where, site, model or where / "model.safetensors"))
    if (where / "hospital.yaml").is_file():
        return _attackable(_hospital(SiteFolder(where), plan, model))
    raise RunError(f"{where}: found neither a simulated run nor a hospital's folder; give one of the two")


def _attackable(subject: Subject) -> Subject:
    method, name = subject.plan.strategy.method, subject.plan.strategy.name
    if method.stays is not Stays.NOTHING:
        raise ConfigError(
            f"strategy {name}: {method.stays.value} stays at the site, or crosses beside the weights; what "
            "is attacked here are whole updates (FedAvg, FedProx and the like): audit it with one of them"
        )
    if subject.plan.model.pretrained is not None:
        raise ConfigError(
            "model.pretrained: the attacks train from the weights of the plan's seed, and not from that "
            "file: audit the plan without it"
        )
    return subject


def _simulated(where: Path, site: str | None, model: Path) -> Subject:
    plan = load_yaml(where / runs.SCENARIO, Scenario).plan
    if not runs.is_finished(where):
        raise RunError(
            f"{where}: is not finished; go on with: pneumofed simulate --out {quoted(where)} --resume"
        )
    told = runs.trained_on(where)
    cohorts = told.cohorts if told else where / COHORTS
    if not cohorts.is_dir():
        raise RunError(f"{cohorts}: the data that the run was trained on are not there; put them back")
    names = sorted(path.name for path in cohorts.iterdir() if path.is_dir() and not path.name.startswith("."))
    name = site or names[0]
    if name not in names:
        raise ConfigError(f"--site: found {name!r}, the run has {', '.join(names)}")
    ledger = ledger_of(where, FEDERATED, name)
    return Subject(name, plan, cohorts / name, load_model(model, plan), ledger)


def _hospital(folder: SiteFolder, plan: str | None, model: Path | None) -> Subject:
    approvals = Approvals(folder.plans)
    if plan is None:
        known = ", ".join(sha256[:12] for sha256 in approvals.known()) or "none yet"
        raise ConfigError(f"{folder.path}: say which plan with --plan; known are: {known}")
    approved = approvals.plan(approvals.find(plan))
    known_ledger(folder.ledger, folder.audit)  # one that has forgotten would say that nothing was spent
    weights = load_model(model, approved) if model else None
    return Subject("this site", approved, folder.cohort(approved), weights, folder.ledger)


def load_model(path: Path, plan: Plan) -> Weights:
    """The weights in `path`. Raises ConfigError if it is no such file, or not the plan's model."""
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as e:
        raise ConfigError(f"{path}: not a readable model ({type(e).__name__})") from None
    if {name: w.shape for name, w in weights.items()} != dict(Schema.of(build_model(plan)).shapes):
        raise ConfigError(f"{path}: holds other tensors than the plan's model")
    return weights
