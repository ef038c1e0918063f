"""The runs that wait in a server's queue, as it tells them to a site: somebody there can decide about a plan
before its turn comes."""

from dataclasses import asdict, dataclass

from common.errors import WireError

PATH = "/v1/pneumofed/waiting"
MOST = 20
"""Runs that are told: those that begin first."""
MAX_PLAN_CHARS = 100_000


@dataclass(frozen=True)
class Waiting:
    """A run whose turn has not come."""

    run: str
    """What tells it from others, as in its messages (common/wire.py, RUN)."""
    sha256: str
    """Of its plan."""
    plan: str
    """The plan's canonical JSON."""


def to_tree(waiting: list[Waiting]) -> list[dict[str, str]]:
    """What `parse` reads."""
    return [asdict(one) for one in waiting[:MOST]]


def parse(tree: object) -> list[Waiting]:
    """From JSON. Raises WireError if it is anything but such runs."""
    if not isinstance(tree, list) or len(tree) > MOST:
        raise WireError("what the server told of its queue is not readable")
    return [_one(member) for member in tree]


def _one(tree: object) -> Waiting:
    names = set(Waiting.__dataclass_fields__)
    if not isinstance(tree, dict) or tree.keys() != names:
        raise WireError("what the server told of its queue is not readable")
    if not all(isinstance(text, str) and len(text) <= MAX_PLAN_CHARS for text in tree.values()):
        raise WireError("what the server told of its queue is not readable")
    return Waiting(**tree)
