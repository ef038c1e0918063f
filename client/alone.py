"""The model that a hospital trains by itself: the same split, budget and ClientApp as in the federation, for
what the federation gained it. Nothing of it leaves the site.

It is resumed where it was; it trains in the hours that the policy allows. Under a plan with privacy it trains
without: nobody else sees it.
"""

import datetime
from pathlib import Path

from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.supercore.task_identity import TaskIdentity
from safetensors.numpy import load_file, save

from client.app import app
from client.governance.policy import Policy
from client.settings import SiteFolder
from client.site_config import SiteConfig
from client.worker import answer, make_context
from common import wire
from common.aggregate import WeightedMean, apply_update
from common.config import dump_yaml
from common.credentials import common_name, read_certificate
from common.errors import RunError
from common.files import write_atomically
from common.handover import MODEL, PLAN
from common.models.pretrained import starting_model
from common.plan import Plan, Strategy
from common.progress import follow

PIECE = "alone-{}.safetensors"
"""After so many rounds."""


def alone_plan(plan: Plan) -> Plan:
    """What a hospital would train without a federation: plain training, without the noise that protects from
    others."""
    return plan.model_copy(update={"strategy": Strategy(), "privacy": None})


def train_alone(site: SiteFolder, plan: Plan, pretrained: Path | None = None) -> Path:
    """The folder of the model, trained to the plan's last round.

    Raises:
        RunError: the policy's hours are over, or training failed; what was trained stays.
        ConfigError: the plan starts from a file that was not given.
    """
    # Another cohort, as after a patient was forgotten, is another model.
    folder = site.path / "alone" / f"{plan.sha256[:16]}-{site.cohort_identity(plan)[:16]}"
    alone = alone_plan(plan)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_atomically(folder / PLAN, dump_yaml(alone).encode())
    if (folder / MODEL).is_file():
        return folder
    settings = site.settings()
    config = SiteConfig(
        site=common_name(read_certificate(site.certificate)),
        cohorts=(site.cohort(plan),),
        plan=folder / PLAN,
        device=settings.device,
        min_patients=settings.policy.min_patients,
    )
    done, weights = _resume(folder, alone, pretrained)
    for number in follow(range(done + 1, alone.rounds + 1), "rounds alone", alone.rounds - done):
        _require_open(settings.policy, number - 1, alone.rounds)
        weights = _round(config, alone, number, weights)
        write_atomically(folder / PIECE.format(number), save(weights))
        (folder / PIECE.format(number - 1)).unlink(missing_ok=True)
    write_atomically(folder / MODEL, save(wire.model_part(weights)))
    (folder / PIECE.format(alone.rounds)).unlink(missing_ok=True)
    return folder


def _resume(folder: Path, plan: Plan, pretrained: Path | None) -> tuple[int, wire.Weights]:
    """Rounds that are done, and the weights after them."""
    done = [n for n in range(plan.rounds, 0, -1) if (folder / PIECE.format(n)).is_file()]
    if not done:
        return 0, wire.get_weights(starting_model(plan, pretrained))
    return done[0], load_file(folder / PIECE.format(done[0]))


def _require_open(policy: Policy, done: int, rounds: int) -> None:
    if closed := policy.closed(datetime.datetime.now()):
        raise RunError(
            f"{closed}; {done} of {rounds} rounds are trained alone, the same command goes on from there"
        )


def _round(config: SiteConfig, plan: Plan, number: int, weights: wire.Weights) -> wire.Weights:
    """As a server with one site makes it, to the last bit."""
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, SUPERLINK_NODE_ID, 1
    asked = ConfigRecord({wire.PLAN_SHA256: plan.sha256, wire.RUN: "alone", wire.ROUND: number})
    content = RecordDict({wire.CONFIG: asked, wire.ARRAYS: wire.pack(weights)})
    request = Message(content, 1, MessageType.TRAIN)
    request.metadata.__dict__["_message_id"] = f"alone-{number}"
    reply = answer(app, request, make_context(1, config.to_node()))
    if reply.has_error():
        raise RunError(f"round {number} alone: {reply.error.reason}")
    schema = wire.Schema({name: w.shape for name, w in weights.items()})
    update = schema.unpack(wire.get_arrays(reply.content))
    mean = WeightedMean(schema.shapes, plan.federation.max_update_norm)
    mean.add(update, wire.check_numbers(reply.content, wire.TRAIN_NUMBERS)[wire.N_EXAMPLES])
    return schema.check(apply_update(weights, mean.mean()))
