"""A site's end of a plan's codec: which global weights of a run lie here, and what of its updates it still
owes.

Both lie on the disk, so that a restart changes nothing. Neither ever leaves.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from flwr.app import RecordDict
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from client.methods.memory import SiteMemory
from common import wire
from common.aggregate import apply_update
from common.codec import CODED, Coder, identity
from common.errors import RefusedError, WireError
from common.files import write_atomically
from common.seeds import numpy_generator

HELD, OWED = "held.safetensors", "owed"
Weights = wire.Weights
T = TypeVar("T")


@dataclass(frozen=True)
class Sending:
    """What a coded update is an answer to."""

    site: str
    seed: int
    """The plan's."""
    round: int
    answered: int
    """The last round of which the server has this site's update."""
    carries: bool = True
    """Whether what is owed of earlier updates goes with it."""


@dataclass(frozen=True)
class CodedRun:
    """One run of a plan with a codec at one site."""

    coder: Coder
    folder: Path
    """Of this run; made when it is needed."""
    start: Callable[[], Weights]
    """The weights that the plan begins with; empty where only the server has them."""
    cohort: str
    """Fingerprint of whom the updates are trained on."""

    def holds(self) -> str:
        """Identity of the weights that lie here; empty if there are none."""
        held = self._held()
        return identity(held) if held else ""

    def received(self, content: RecordDict) -> Weights:
        """The weights that a request is about; they lie here from now on.

        Raises:
            WireError: they are not what the server says they are, or a difference to others than lie here.
        """
        wanted, held = wire.get_identity(content, wire.WEIGHTS), self._held()
        base = identity(held) if held else ""
        if base and base == wanted:
            return self.coder.schema.check(held)
        weights = self._read(content, held, base)
        if identity(weights) != wanted:
            raise WireError("the weights that came are not those that the server names")
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.folder / HELD, save(weights))
        return weights

    def _read(self, content: RecordDict, held: Weights, base: str) -> Weights:
        """What came, whole or as a difference to what lies here, whose identity is `base`."""
        arrays = wire.get_arrays(content)
        if wire.PACKED in arrays:
            return self.coder.schema.unpack(arrays)
        if not base or CODED not in arrays or wire.get_identity(content, wire.BASE) != base:
            raise WireError(
                "this site does not hold the weights that the server took it to hold; they come whole next "
                "time"
            )
        difference = self.coder.decode(self.coder.payload_of(arrays))
        return self.coder.schema.check(apply_update(held, difference))

    def _held(self) -> Weights:
        """What lies here. A file that cannot be read is as good as none: the server sends all of it again."""
        try:
            return load_file(self.folder / HELD)
        except FileNotFoundError:
            return self.start()
        except (SafetensorError, OSError, ValueError):
            return {}

    def require_newest(self, answered: int) -> None:
        """For masked updates: an older copy of what this site owes is not left out in silence, or a server
        could have all but one site forget theirs, and the sum would be that one's.

        Raises:
            RefusedError: the server says that it has a later update than the last that lies here.
        """
        last = max((SiteMemory(kept).last() for kept in (self.folder / OWED).glob("*")), default=0)
        if last < answered:
            raise RefusedError(
                f"the server has this site's update of round {answered}, here lies what it owes of round "
                f"{last}: an older copy was put back; bring the newest, or go on without this site"
            )

    def sent(
        self,
        update: Weights,
        to: Sending,
        encode: Callable[[Weights, np.random.Generator], tuple[T, Weights]],
    ) -> T:
        """The update with what is owed from the rounds before, as `encode` codes it; what that loses of it
        is owed next.

        Asked for the same round again, it is the same. Of an update that the server does not have, which may
        have been kept back here, nothing is owed: it would leave with a later one. Nor where the cohort is
        another one now: a patient who was forgotten is in no update that leaves later.
        """
        kept = self.folder / OWED / self.cohort[:16]
        for other in set((self.folder / OWED).glob("*")) - {kept}:
            shutil.rmtree(other)
        memory = SiteMemory(kept)
        memory.drop_after(to.answered)
        # An older rest, of a copy that was put back, is in what the server has already.
        owed = memory.before(to.round) if to.carries and memory.last() == to.answered else {}
        whole = {name: value + owed[name] for name, value in update.items()} if owed else update
        coded, told = encode(whole, numpy_generator(to.seed, "codec", to.site, to.round))
        memory.keep(to.round, {name: value - told[name] for name, value in whole.items()})
        return coded
