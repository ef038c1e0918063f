"""The round loop: dispatch, check each reply, fold it in on arrival, quorum, aggregate, checkpoint,
evaluate."""

import math
import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

from flwr.app import ArrayRecord, ConfigRecord, Message
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from common import wire
from common.errors import RunError, WireError
from common.plan import Plan, evaluates, require_current
from common.results.rounds import UPDATE_NORM, Evaluation, RoundReport
from common.results.survey import Survey, add_to_survey
from common.secure.keys import Moment
from common.secure.levels import Bounds
from common.seeds import derive_seed
from common.selection import chosen_round, goes_on, verdicts_of
from server.broadcast import Broadcast
from server.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from server.observer import Observer
from server.pooling import pool_numbers
from server.private_scores import checked, pool_privately
from server.replies import Replies
from server.roster import NO_ANSWER, POLL_S, Deployment, Members, Roster, collect, objection
from server.secure import Exchange, SecureReplies
from server.strategies import (
    asked_of,
    build_strategy,
    is_mean,
    least_sites,
    require_enough_sites,
    restore_state,
    snapshot_state,
    to_flower,
    too_few,
)
from server.weighing import Scale, unlike

GRACE_S = 5.0
"""How long a round waits for a site that failed in the round before: one that was restarted is back by
then."""


class RoundLoop:
    """Runs a plan over a grid, from the last checkpoint in `folder` or from `initial`."""

    def __init__(
        self,
        grid: Grid,
        plan: Plan,
        schema: wire.Schema,
        folder: Path,
        observer: Observer,
        deployment: Deployment | None = None,
    ) -> None:
        require_current(plan)
        self.grid, self.plan, self.schema, self.folder, self.observer = grid, plan, schema, folder, observer
        self.deployment = deployment or Deployment(everybody=True)
        self.strategy: Strategy = build_strategy(plan)
        self.roster = Roster(self.deployment)
        self.broadcast = Broadcast(plan, schema)
        self.members: list[int] = []
        self._survey: Survey | None = None  # of all that were ever in
        self._surveyed = 0
        self._outcast: dict[str, str] = {}  # sites that are asked no more in this process, and why
        self._lost: set[str] = set()  # sites that failed in the round before: worth a short wait

    def run(self, initial: wire.Weights) -> Checkpoint:
        """All rounds that are left; returns the last checkpoint.

        Raises:
            RunError: fewer sites answered than the plan's quorum. The checkpoint before stands, and can be
            resumed.
            ConfigError: the plan's strategy needs more sites than there are.
        """
        state = load_checkpoint(self.folder, self.plan.sha256) or Checkpoint(0, initial)
        del initial  # after the first round nobody needs them
        state = replace(
            state, weights={name: state.weights[name] for name in self.schema.shapes}
        )  # a file keeps no order
        restore_state(self.strategy, state.strategy)
        if self._goes_on(state):
            self._gather(self.deployment.min_sites, self.deployment.wait_s)
            require_enough_sites(self.plan, len(self.members))
        self.observer.started(sorted(self.roster.declared), state.round, self.plan.rounds)
        while self._goes_on(state):
            state = self._round(state)
            save_checkpoint(self.folder, state, self.plan.sha256)
            self.observer.finished_round(state.history[-1])
        return state

    def _absent(self) -> dict[str, str]:
        """Sites of the run that never got in, where that counts, and why."""
        return self.roster.refused if self.deployment.everybody else {}

    def _is_alone(self) -> bool:
        """Whether it is a federation of one, as each hospital's own arm is: a robust rule has nobody to
        compare with, and takes the one update as it is."""
        return self.deployment.min_sites == 1 and len(self.members) + len(self._absent()) == 1

    def _goes_on(self, state: Checkpoint) -> bool:
        return goes_on(self.plan, verdicts_of(state.history), state.round)

    def _gather(self, needed: int, wait_s: float) -> None:
        """Wait until `needed` sites are here, and a moment for those that were lost in the round before.

        Raises:
            RunError: `wait_s` seconds passed without them; it names who refused and why.
        """
        started = time.monotonic()
        while True:
            self.roster.greet(self.grid, self.plan)
            self._keep_survey()
            self.members, able = self.roster.present(self.grid), self.deployment.at_most(needed)
            here = [self.roster.names[node] for node in self.members]
            waited = time.monotonic() - started
            if len(here) >= able and (self._lost <= set(here) or waited >= min(wait_s, GRACE_S)):
                return
            if len(here) < able and waited >= wait_s:
                raise self.roster.shortage(len(here), able)
            self.observer.gathering(here, able, dict(self.roster.refused))
            time.sleep(POLL_S)

    def _keep_survey(self) -> None:
        """survey.json: what the sites say of their patients, from when the first is in."""
        if len(self.roster.declared) > self._surveyed:
            self._survey = add_to_survey(self.folder, self.roster.declared, self.plan.findings)
            self._surveyed = len(self.roster.declared)

    def _round(self, before: Checkpoint) -> Checkpoint:
        number, started = before.round + 1, time.perf_counter()
        needed = self.deployment.at_most(self.deployment.min_sites)
        quorum = max(1, math.ceil(self.plan.federation.quorum * needed))
        least = quorum if self._is_alone() else max(quorum, least_sites(self.plan))
        self._gather(least, min(self.deployment.wait_s, self.plan.federation.deadline_s))
        aggregated, trained, bounds = self._train(number, before)
        weights, owed = self.broadcast.stepped(before.weights, aggregated, before.owed, number)
        self._lost = set(trained.failed)
        due = evaluates(self.plan, number)
        evaluation, bytes_down = self._evaluate(number, weights) if due else (None, 0)
        report = trained.judged(evaluation, bytes_down, time.perf_counter() - started)
        history = [*before.history, report]
        after = Checkpoint(number, weights, snapshot_state(self.strategy), history, owed=owed, bounds=bounds)
        is_best = chosen_round(self.plan, verdicts_of(after.history), number) == number
        return after if is_best else replace(after, best=before.best or before.weights)

    def _train(self, number: int, before: Checkpoint) -> tuple[wire.Weights, RoundReport, Bounds]:
        """The weights after a round, the next one's bounds. It begins anew without a site that spoils it."""
        requests, replies = self._requests(number, before), self._replies(number, before)
        n_asked = max(len(requests), asked_of(self.plan, len(self.members) + len(self._absent())))
        requests = [m for m in requests if self.roster.name(m.metadata.dst_node_id) not in self._outcast]
        asked, admitted, failed = requests, self._admitted(requests), replies.failed
        failed |= {**self._absent(), **self._outcast}
        requests = replies.begin(requests)
        bytes_down = sum(map(wire.payload_bytes, requests))
        sites, n_caught, bytes_up = self._take(requests, replies)
        if outcast := replies.outcast():
            self._outcast |= outcast
            return self._train(number, before)
        n_asked -= len(admitted - self._admitted(asked))
        self._require_quorum(number, len(sites), n_asked, failed)
        self._require_rule(number, len(sites), n_asked, n_caught, failed)
        replies.finish()
        norms = {s: n[UPDATE_NORM] for s, n in sites.items() if not math.isnan(n[UPDATE_NORM])}
        report = RoundReport(
            round=number,
            bytes_down=bytes_down,
            bytes_up=bytes_up,
            sites=sites,
            failed=failed,
            noted={**unlike(norms), **replies.scale.capped, **replies.noted},
        )
        return replies.aggregate(number, self.strategy), report, replies.bounds

    def _take(self, requests: list[Message], replies: Replies) -> tuple[dict[str, wire.Numbers], int, int]:
        """Site -> the numbers of each update that counts (why another does not is in `replies.failed`); how
        many came that are none; and the bytes of all."""
        sites: dict[str, wire.Numbers] = {}
        n_caught, n_bytes = 0, 0
        asked = {m.metadata.dst_node_id for m in requests}
        self._tell_asked(asked, "train")
        for node, reply in collect(self.grid, requests, self.deployment.deadline_s(self.plan)):
            site = self.roster.name(node)
            asked.discard(node)
            n_bytes += wire.payload_bytes(reply)
            try:
                sites[site] = replies.accept(site, reply)
            except Exception as e:
                replies.failed[site] = objection(site, e)
                n_caught += not reply.has_error()
                self.broadcast.failed(site)
            else:
                self.broadcast.took(site)
            self.observer.replied(site, "train")
        replies.failed |= {self.roster.name(node): NO_ANSWER for node in asked}
        return sites, n_caught, n_bytes

    def _requests(self, number: int, before: Checkpoint) -> list[Message]:
        """To the sites that take part in a round."""
        # Flower draws participants from Python's global generator: seeded here, a resumed run draws the same.
        random.seed(derive_seed(self.plan.seed, "participants", number))
        shown = self._shown(before.weights)
        requests = list(self.strategy.configure_train(number, shown, self._config(), self._members()))
        self._fill(requests, before.weights)
        self._remind(requests, before.history)
        return requests

    def _tell_asked(self, nodes: Iterable[int], what: str) -> None:
        self.observer.asked(sorted(map(self.roster.name, nodes)), what)

    def _replies(self, number: int, before: Checkpoint) -> Replies:
        """Where the round's updates go."""
        here = self._declared(wire.N_TRAIN)
        known = self._survey.sites if self._survey else {}
        away = {s: float(n[wire.N_TRAIN]) for s, n in known.items() if s not in here}
        scale = Scale(self.plan, here, away)
        work = (self.plan, self.schema, before.weights, len(self.members), scale)
        if not self.plan.aggregation.secure:
            return Replies(*work)
        moment = Moment(self.plan.sha256, self.deployment.run, number)
        deadline_s = self.deployment.deadline_s(self.plan)
        return SecureReplies(*work, Exchange(self.grid, moment, self.roster.name, deadline_s, before.bounds))

    def _declared(self, what: str) -> dict[str, float]:
        """Site -> its patients (N_TRAIN, N_VALIDATION), as it said when it was greeted."""
        here = {self.roster.names[node] for node in self.members}
        return {site: float(said[what]) for site, said in self.roster.declared.items() if site in here}

    def _remind(self, requests: list[Message], history: Sequence[RoundReport]) -> None:
        """Tell each site up to which round its updates are here: one whose own records end before that was
        put back from an older copy."""
        for request in requests:
            site = self.roster.name(request.metadata.dst_node_id)
            answered = max((report.round for report in history if site in report.sites), default=0)
            config = request.content.config_records[wire.CONFIG]
            request.content[wire.CONFIG] = ConfigRecord({**config, wire.ANSWERED: answered})

    def _shown(self, weights: wire.Weights) -> ArrayRecord:
        """To the strategy, if it looks at them: what the sites get is packed after it."""
        return ArrayRecord() if is_mean(self.strategy) else to_flower(weights)

    def _fill(self, requests: list[Message], weights: wire.Weights) -> None:
        self.broadcast.greeted(self.roster.declared)
        self.broadcast.fill(requests, weights, self.roster.names)

    def _config(self) -> ConfigRecord:
        return ConfigRecord({wire.PLAN_SHA256: self.plan.sha256, wire.RUN: self.deployment.run})

    def _members(self) -> Grid:
        return cast(Grid, Members(self.members))  # a strategy asks a grid for its nodes, nothing else

    def _admitted(self, requests: Iterable[Message]) -> set[int]:
        """Of the nodes that are asked, those that the server admits now; none in a simulation."""
        nodes = {message.metadata.dst_node_id for message in requests}
        return {node for node in nodes if self.deployment.admitted_as(node) is not None}

    def _require_quorum(self, number: int, answered: int, asked: int, failed: dict[str, str]) -> None:
        needed = max(1, math.ceil(self.plan.federation.quorum * asked))
        if answered < needed:
            raise RunError(
                f"round {number}: {answered} of {asked} sites gave a usable update, the quorum is {needed}. "
                f"{_listed(failed)}"
            )

    def _require_rule(
        self, number: int, answered: int, asked: int, caught: int, failed: dict[str, str]
    ) -> None:
        """A robust rule with too few updates protects nobody. Those that were refused count, if they are no
        more than the hostile ones that the rule allows for: these did no harm."""
        allowed = self.plan.strategy.method.hostile(answered + caught, self.plan.strategy.options)
        objection = too_few(self.plan, answered + (caught if caught <= allowed else 0))
        if objection and not self._is_alone():
            raise RunError(
                f"round {number}: {answered} of {asked} sites gave a usable update. Strategy "
                f"{self.plan.strategy.name}: {objection}. {_listed(failed)}"
            )

    def _evaluate(self, number: int, weights: wire.Weights) -> tuple[Evaluation, int]:
        """The sites' judgement of the weights, and the bytes that it sent to them."""
        requests = list(
            self.strategy.configure_evaluate(number, ArrayRecord(), self._config(), self._members())
        )
        self._fill(requests, weights)
        bytes_down = sum(map(wire.payload_bytes, requests))
        sites: dict[str, wire.Numbers] = {}
        failed: dict[str, str] = {}
        scale = Scale(self.plan, self._declared(wire.N_VALIDATION))
        asked = {m.metadata.dst_node_id for m in requests}
        self._tell_asked(asked, "evaluate")
        for node, reply in collect(self.grid, requests, self.deployment.deadline_s(self.plan)):
            site = self.roster.name(node)
            asked.discard(node)
            try:
                if reply.has_error():
                    raise WireError(reply.error.reason)
                numbers = wire.check_numbers(reply.content, wire.evaluate_numbers(self.plan))
                if self.plan.privacy is not None:
                    numbers = checked(numbers, self.plan)
                sites[site] = {**numbers, wire.N_EXAMPLES: scale.weigh(site, numbers[wire.N_EXAMPLES])}
            except Exception as e:
                failed[site] = objection(site, e)  # it may keep its scores, and go on from what it holds
            else:
                self.broadcast.took(site)
            self.observer.replied(site, "evaluate")
        failed |= {self.roster.name(node): NO_ANSWER for node in asked}
        told = dict(sorted(sites.items()))
        if self.plan.privacy is not None:
            return pool_privately(told, failed, self.plan), bytes_down
        return pool_numbers(told, failed), bytes_down


def _listed(failed: dict[str, str]) -> str:
    return "; ".join(f"{site}: {reason}" for site, reason in sorted(failed.items()))
