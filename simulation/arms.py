"""The arms of a simulation, by name, and where each keeps what its sites keep."""

from pathlib import Path

FEDERATED, CENTRALISED = "federated", "centralised"


def local_arm(site: str) -> str:
    """The arm in which one hospital trains alone."""
    return f"local-{site}"


def memory_folder(out: Path, arm: str, site: str) -> Path:
    """Where the plan's method keeps a site's tensors in an arm of the run in `out`
    (client/methods/memory.py)."""
    return out / "arms" / arm / f"memory-{site}"
