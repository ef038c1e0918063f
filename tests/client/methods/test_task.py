"""One site's round: it starts where it is told to, and a second training of the round is another one."""

import numpy as np

from client.methods.memory import SiteMemory
from client.methods.task import Task, difference
from common import wire
from common.models import build_model
from tests.helpers.cohorts import CPU
from tests.helpers.site_rounds import plan_of


def task_of(cohort):
    plan = plan_of("FedAvg")
    model = build_model(plan)
    start = {n: w + np.float32(0.01) for n, w in wire.get_weights(model).items()}
    return Task(model, cohort, plan, "here", 1, CPU, start, SiteMemory(None))


def test_it_starts_from_the_given_weights_whatever_the_model_held(cohort):
    task, again = task_of(cohort), task_of(cohort)
    wire.set_weights(again.model, {n: w + 1 for n, w in task.start.items()})
    trained = []
    for one in (task, again):
        one.train(one.start)
        trained.append(wire.get_weights(one.model))
    assert all(np.array_equal(trained[0][n], trained[1][n]) for n in trained[0])


def test_a_second_training_of_the_round_draws_other_batches(cohort):
    task = task_of(cohort)
    task.train(task.start)
    first = wire.get_weights(task.model)
    task.train(task.start, seed=", own")
    assert any(not np.array_equal(first[n], w) for n, w in wire.get_weights(task.model).items())


def test_the_anchor_stays_at_the_global_weights(cohort):
    task = task_of(cohort)
    anchor = task.anchor()
    task.train(task.start)
    names = [n for n, p in task.model.named_parameters() if p.requires_grad]
    assert all(np.array_equal(a.numpy(), task.start[n]) for a, n in zip(anchor, names, strict=True))


def test_the_difference_is_by_name():
    after, before = {"a": np.array([3.0]), "b": np.array([1.0])}, {"b": np.array([1.5]), "a": np.array([1.0])}
    assert {n: d.tolist() for n, d in difference(after, before).items()} == {"a": [2.0], "b": [-0.5]}
