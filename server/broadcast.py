"""What each site is sent of the global weights: all of them; or, under a plan with a codec, what it lacks.

With a codec the global weights move in steps that are coded like an update: what rounding loses of a step is
put on the next one. All sites hold the same weights, which are the run's, to the last bit.
"""

from collections.abc import Iterable, Mapping

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, RecordDict

from common import wire
from common.aggregate import apply_update
from common.codec import Coder, identity
from common.plan import Plan
from common.secure.levels import n_integers, widths
from common.secure.ring import ring_bytes
from common.seeds import numpy_generator
from common.wire import Weights


class Broadcast:
    """Packs requests, and knows which site holds what."""

    def __init__(self, plan: Plan, schema: wire.Schema) -> None:
        self._seed, self._coder = plan.seed, Coder.of(plan, schema)
        self._answer_bytes = answer_bytes(plan, schema)
        self._held: dict[str, str] = {}  # site -> identity of the weights that lie there; empty: not known
        self._now = ""  # identity of the weights that were sent last
        self._step: tuple[str, str, bytes] | None = None  # from, to, and how

    def stepped(self, before: Weights, after: Weights, owed: Weights, round: int) -> tuple[Weights, Weights]:
        """The weights that come after `before` where the strategy gave `after`, and what they owe to it."""
        if self._coder is None:
            return after, {}
        step = {name: value - before[name] for name, value in after.items()}
        step = {name: value + owed[name] for name, value in step.items()} if owed else step
        rng = numpy_generator(self._seed, "codec", "", round)
        payload, told = self._coder.encode(step, rng, sparse=False)
        weights = apply_update(before, told)
        self._step = (identity(before), identity(weights), payload)
        return weights, {name: value - told[name] for name, value in step.items()}

    def fill(self, requests: Iterable[Message], weights: Weights, sites: Mapping[int, str]) -> None:
        """Put the weights into requests, each by what its site holds; `sites` are the nodes' names."""
        now = self._now = identity(weights) if self._coder else ""
        whole: ArrayRecord | None = None
        for request in requests:
            site = sites.get(request.metadata.dst_node_id, "")
            arrays, said = self._lacking(site, now)
            if arrays is None:
                arrays = whole = whole or wire.pack(weights)
            if request.metadata.message_type == MessageType.TRAIN:
                said |= {wire.TENSOR_BYTES: self._answer_bytes}
            config = request.content.config_records[wire.CONFIG]
            request.content = RecordDict({**request.content, wire.CONFIG: ConfigRecord({**config, **said})})
            request.content[wire.ARRAYS] = arrays

    def _lacking(self, site: str, now: str) -> tuple[ArrayRecord | None, dict[str, str | int]]:
        """What to send instead of all weights, if anything; and what to say beside it."""
        if self._coder is None:
            return None, {}
        said: dict[str, str | int] = {wire.WEIGHTS: now}
        held = self._held.get(site)
        if held == now:
            return ArrayRecord(), said
        if self._step is not None and (held, now) == self._step[:2]:
            return self._coder.pack(self._step[2]), {**said, wire.BASE: self._step[0]}
        return None, said

    def greeted(self, said: Mapping[str, Mapping[str, float | str]]) -> None:
        """Note what sites hold when they are greeted."""
        for site, numbers in said.items():
            self._held.setdefault(site, str(numbers.get(wire.HOLDS, "")))

    def took(self, site: str) -> None:
        """A site answered the last request: it holds those weights."""
        self._held[site] = self._now

    def failed(self, site: str) -> None:
        """It did not, and nobody knows what it holds: it is sent all of them next."""
        self._held[site] = ""


def answer_bytes(plan: Plan, schema: wire.Schema) -> int:
    """The most that the tensors of an update may have, as the plan has it sent: under masks, coded, or as
    they are. What the request held says nothing of it: with a codec that may be nothing."""
    if plan.aggregation.secure:
        return ring_bytes(n_integers(plan, schema.shapes), max(widths(plan)))
    coder = Coder.of(plan, schema)
    return schema.packed_bytes if coder is None else coder.most_bytes
