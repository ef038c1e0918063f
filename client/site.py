"""A site between two messages: the approved plan, the open cohort and a model to load weights into, which
stay warm."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from flwr.app import Context, RecordDict

from client.coded import CodedRun, Sending
from client.compute.device import choose_device
from client.imaging.cohort import Cohort, require_trainable
from client.methods.memory import SiteMemory
from client.site_config import SiteConfig
from common import wire
from common.codec import Coder
from common.config import load_yaml
from common.errors import DataError, WireError
from common.methods import Stays
from common.models import CNNLSTM, build_model
from common.models.pretrained import starting_weights
from common.plan import Plan


@dataclass(frozen=True)
class Site:
    """What a site has at hand, and what a request is about there."""

    config: SiteConfig
    plan: Plan
    cohort: Cohort
    device: torch.device
    model: CNNLSTM
    schema: wire.Schema

    @classmethod
    def of(cls, context: Context) -> "Site":
        config = SiteConfig.from_node(context.node_config)
        return _open_site(config, tuple(_stamp(folder / "cohort.json") for folder in config.cohorts))

    def require_plan(self, content: RecordDict) -> None:
        asked = wire.get_text(content, wire.PLAN_SHA256)
        if asked != self.plan.sha256:
            raise WireError(f"the server runs plan {asked[:12]}, this site approved {self.plan.sha256[:12]}")

    def round_in(self, content: RecordDict, first: int = 1) -> int:
        """Raises WireError: another plan than the approved one, or a round that it does not have."""
        self.require_plan(content)
        if (number := wire.get_round(content, first)) > self.plan.rounds:
            raise WireError(f"found round {number}, the plan has {self.plan.rounds}")
        return number

    def weights_in(self, content: RecordDict, first: int = 1) -> wire.Weights:
        """The weights of a request. Raises WireError as `round_in` does, and for other tensors than the
        model's."""
        self.round_in(content, first)
        run = self.coded_run(content)
        return run.received(content) if run else self.schema.unpack(wire.get_arrays(content))

    def coded_run(self, content: RecordDict) -> CodedRun | None:
        """This site's end of the plan's codec in the run that a request is about; None without one.

        Raises:
            DataError: the node configuration names no folder for it.
        """
        coder = Coder.of(self.plan, self.schema)
        if coder is None:
            return None
        if self.config.memory is None:
            raise DataError(f"the plan has the codec {self.plan.codec.name}, and the node no folder (memory)")
        folder = self.config.memory / wire.get_text(content, wire.RUN)
        return CodedRun(coder, folder, self._start, self.cohort.fingerprint)

    def _start(self) -> wire.Weights:
        """The weights that the plan begins with; empty where only the server has them."""
        given = self.config.pretrained
        if self.plan.model.pretrained is not None and given is None:
            return {}
        return starting_weights(self.plan, given)

    def sending(self, content: RecordDict) -> Sending:
        """What a coded update of this site is an answer to."""
        number = wire.get_round(content)
        return Sending(self.config.site, self.plan.seed, number, wire.get_answered(content, number - 1))

    @property
    def n_examples(self) -> int:
        """The training patients; under privacy all sites count alike."""
        if self.plan.privacy is not None:
            return wire.PRIVATE_WEIGHT
        return self.cohort.count_patients(self.cohort.split(self.plan.split)["train"])

    def memory_of(self, content: RecordDict) -> SiteMemory:
        """What the plan's method keeps at this site in the run that a request is about."""
        if self.config.memory is None or self.plan.strategy.method.stays is Stays.NOTHING:
            return SiteMemory(None)
        return SiteMemory(self.config.memory / wire.get_text(content, wire.RUN))


def _stamp(file: Path) -> tuple[int, int]:
    """Another one when the file was replaced: a cohort's by a new ingest, or because a patient was
    forgotten."""
    try:
        state = file.stat()
        return state.st_mtime_ns, state.st_ino
    except OSError:
        return 0, 0  # opening it says what is wrong


@lru_cache(maxsize=2)
def _model_of(plan: str, device: torch.device) -> tuple[CNNLSTM, wire.Schema]:
    """A model to load weights into, and what crosses of it; `plan` is canonical JSON. Sites of one process
    that train under one plan share it: every message brings its weights."""
    agreed = Plan.model_validate_json(plan)
    model = build_model(agreed).to(device)
    return model, wire.Schema.exchanged(agreed, model)


@lru_cache(maxsize=1024)
def _open_site(config: SiteConfig, stamps: tuple[tuple[int, int], ...]) -> Site:
    """A warm site is one for as long as its configuration and its cohorts on disk (`stamps`) are the same."""
    plan = load_yaml(config.plan, Plan)
    cohort = Cohort.open(*config.cohorts)
    if cohort.contract != plan.input or cohort.findings != plan.findings:
        raise DataError(
            f"{config.site}: the cohort was ingested for another input contract or other findings; ingest it "
            "again"
        )
    require_trainable(cohort, plan.split, max(plan.min_patients, config.min_patients), config.site)
    device = choose_device(config.device)
    model, schema = _model_of(plan.canonical, device)
    return Site(config, plan, cohort, device, model, schema)
