"""One round of a method at one site."""

from client.methods import train_site
from client.methods.task import Task
from common import wire
from common.models import build_model
from common.plan import Strategy, Training
from tests.helpers.cohorts import CPU
from tests.helpers.plans import small_plan

PLAIN = Training(batch_size=4, learning_rate=0.05, momentum=0.0, weight_decay=0.0, clip_norm=None)


def plan_of(name, options=None, training=PLAIN):
    return small_plan(strategy=Strategy(name=name, options=options or {}), training=training)


def work(plan, cohort, memory, round=1, start=None):
    model = build_model(plan)
    weights = start or wire.get_weights(model)
    return (*train_site(Task(model, cohort, plan, "here", round, CPU, weights, memory)), model)
