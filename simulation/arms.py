"""What each arm of a simulation trains under, and where it keeps what its sites keep."""

from pathlib import Path

from client.alone import alone_plan
from common.arms import CENTRALISED, FEDERATED
from common.config import dump_yaml
from common.files import write_atomically
from common.plan import Plan


def arm_plan(plan: Plan, arm: str, out: Path) -> tuple[Plan, Path]:
    """What an arm trains under, and its file: the plan of the run in `out`; a hospital alone as it would
    without a federation (client/alone.py), and all patients in one place likewise, but under the plan's
    privacy: that model is for others too."""
    own = plan if arm == FEDERATED else alone_plan(plan)
    if arm == CENTRALISED:
        own = own.model_copy(update={"privacy": plan.privacy})
    if own == plan:
        return plan, out / "plan.yaml"
    file = out / "arms" / arm / "plan.yaml"
    write_atomically(file, dump_yaml(own).encode())
    return own, file


def memory_folder(out: Path, arm: str, site: str) -> Path:
    """Where the plan's method keeps a site's tensors in an arm of the run in `out`
    (client/methods/memory.py)."""
    return out / "arms" / arm / f"memory-{site}"


def ledger_of(out: Path, arm: str, site: str) -> Path:
    """The ledger of a site in an arm of the run in `out`: each arm has its own, as only one would be real."""
    return out / "arms" / arm / f"ledger-{site}.sqlite"
