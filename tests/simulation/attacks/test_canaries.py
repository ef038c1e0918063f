"""Canaries: who is planted, and that the attack finds them where it must and not where it cannot."""

import numpy as np
import pytest
import torch

from client.governance.accounting import RoundCost
from client.imaging.cohort import Cohort
from common.plan import Privacy, Training
from simulation.attacks.bounds import epsilon_lower_bound
from simulation.attacks.canaries import guess, plant, scores, train_watched
from tests.helpers.cohorts import make_cohort
from tests.helpers.plans import small_plan

CPU = torch.device("cpu")


def attack(plan, tmp_path, count=100):
    real = make_cohort(tmp_path / "real", 40, plan=plan)
    canaries = plant(plan, count, tmp_path / "canaries")
    cohort = Cohort.open(real)
    n_patients = cohort.count_patients(cohort.split(plan.split)["train"])
    cost = RoundCost.of(plan, n_patients) if plan.privacy else None
    seen = []
    found = scores(
        plan, canaries, train_watched(plan, Cohort.open(real, canaries.folder), cost, CPU, seen.append), CPU
    )
    assert seen == list(range(1, plan.rounds + 1))
    return guess(found, canaries.included)


def twice(plan, tmp_path):
    """Two attacks with coins and canaries of their own, as one of 200: one alone is now and then unlucky."""
    found = [attack(plan, tmp_path / name) for name in ("one", "two")]
    return sum(guesses for guesses, _ in found), sum(right for _, right in found)


def test_canaries_are_training_patients_in_by_a_coin(tmp_path):
    plan = small_plan()
    canaries = plant(plan, 60, tmp_path)
    everyone, included = canaries.everyone, Cohort.open(canaries.folder)
    assert len(everyone) == 60
    assert len(everyone.split(plan.split)["train"]) == 60
    assert set(included.patients) == set(everyone.patients[canaries.included])
    assert 10 <= canaries.included.sum() <= 50
    other = plant(plan, 60, tmp_path / "again")
    assert not set(everyone.patients) & set(other.everyone.patients)


def test_guesses_are_counted():
    included = np.array([True, False, True, False, True, False, False, True])
    assert guess(np.where(included, 1.0, -1.0), included) == (4, 4)
    assert guess(np.where(included, -1.0, 1.0), included) == (4, 0)
    assert guess(np.arange(8.0), included, share=1.0) == (8, 4)


@pytest.mark.slow
def test_without_privacy_the_attack_proves_that_there_is_none(tmp_path):
    plan = small_plan(rounds=6, training=Training(batch_size=4, learning_rate=0.05, epochs=2))
    guesses, right = twice(plan, tmp_path)
    assert epsilon_lower_bound(200, guesses, right, 1e-5) > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("epsilon", [0.5, 3.0])
def test_with_privacy_the_attack_stays_below_what_the_plan_allows(tmp_path, epsilon):
    privacy = Privacy(epsilon=epsilon, delta=1e-3, steps=6)
    plan = small_plan(rounds=4, training=Training(batch_size=20, learning_rate=0.1), privacy=privacy)
    guesses, right = attack(plan, tmp_path)
    assert epsilon_lower_bound(100, guesses, right, 1e-3) <= epsilon


@pytest.mark.slow
def test_with_hardly_any_noise_the_attack_sees_who_is_in(tmp_path):
    """The attack is not blind to private training: with noise of nothing it finds the canaries."""
    privacy = Privacy(noise_multiplier=0.05, delta=1e-3, steps=6)
    plan = small_plan(rounds=4, training=Training(batch_size=20, learning_rate=0.1), privacy=privacy)
    guesses, right = twice(plan, tmp_path)
    assert epsilon_lower_bound(200, guesses, right, 1e-3) > 0.5
