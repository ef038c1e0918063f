import sqlite3
import threading
import time
from multiprocessing import get_context

import numpy as np
import pytest

from client.governance.accounting import epsilon, epsilon_rdp
from client.governance.ledger import Budget, Ledger, Purpose, summary
from common.errors import DataError, RefusedError
from tests.helpers.spender import PATIENTS, spend_for_ever

STEPS = (1.0, 0.1, 10)


def purpose(number=1, run="a", plan="p" * 64):
    return Purpose(plan, run, number)


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path / "ledger.sqlite")


def test_what_is_reserved_counts_before_anything_is_trained_and_over_restarts(ledger, tmp_path):
    first = ledger.reserve(PATIENTS, purpose(1), STEPS, None)
    second = ledger.reserve(PATIENTS, purpose(2), STEPS, None)
    assert list(Ledger(tmp_path / "ledger.sqlite").history()) == [STEPS, STEPS]
    ledger.settle(first, 10)
    ledger.settle(second, 4)
    ledger.settle(second, 4)  # told twice
    assert sorted(Ledger(tmp_path / "ledger.sqlite").history()) == [(1.0, 0.1, 4), (1.0, 0.1, 10)]
    assert epsilon_rdp(ledger.history(), 1e-5) == pytest.approx(
        epsilon_rdp([(1.0, 0.1, 14)], 1e-5), abs=1e-12
    )
    assert ledger.verify() == 4
    with pytest.raises(DataError, match="cannot be settled"):
        ledger.settle(first, 11)


@pytest.mark.slow
def test_a_round_over_the_budget_is_declined_and_leaves_no_trace(ledger):
    allowed = epsilon([(1.0, 0.1, 25)], 1e-5)
    budget = Budget(allowed, 1e-5)
    ledger.reserve(PATIENTS, purpose(1), STEPS, budget)
    ledger.reserve(PATIENTS, purpose(2), STEPS, budget)
    with pytest.raises(RefusedError, match="budget"):
        ledger.reserve(PATIENTS, purpose(3), STEPS, budget)
    assert ledger.verify() == 2
    ledger.reserve(PATIENTS, purpose(3), (1.0, 0.1, 5), budget)  # what fits, fits
    assert summary(ledger, budget).epsilon_left == pytest.approx(0.0, abs=0.02)


@pytest.mark.slow
def test_the_past_belongs_to_the_patients_not_to_the_name_of_a_cohort(ledger):
    budget = Budget(epsilon([(1.0, 0.1, 15)], 1e-5), 1e-5)
    ledger.reserve(PATIENTS[:30], purpose(1), STEPS, budget)
    for again in (
        PATIENTS[:30],
        list(reversed(PATIENTS[:30])),
        PATIENTS[:31],
        PATIENTS[:5],
        [PATIENTS[29], *PATIENTS[40:]],
    ):
        with pytest.raises(RefusedError):
            ledger.reserve(again, purpose(1, run="b"), STEPS, budget)
    ledger.reserve(
        PATIENTS[30:], purpose(1, run="c"), STEPS, budget
    )  # other patients have a budget of their own


@pytest.mark.slow
def test_noise_and_rates_may_differ(ledger):
    history = [(0.8, 0.01, 40), (2.0, 0.5, 3), (1.1, 0.2, 7)]
    for k, steps in enumerate(history):
        ledger.reserve(PATIENTS, purpose(k, run=f"r{k}"), steps, None)
    found = summary(ledger, Budget(8.0, 1e-5))
    assert found.epsilon_spent == pytest.approx(epsilon(history, 1e-5), abs=1e-9)
    assert [run.epsilon for run in found.runs] == pytest.approx(
        [epsilon([s], 1e-5) for s in history], abs=1e-9
    )


def test_the_database_refuses_changes_and_a_forged_one_is_found(ledger, tmp_path):
    for k in range(3):
        ledger.reserve(PATIENTS, purpose(k), STEPS, None)
    with sqlite3.connect(tmp_path / "ledger.sqlite") as raw:
        for statement in (
            "UPDATE entries SET steps = 0",
            "DELETE FROM entries WHERE n = 3",
            "DELETE FROM members",
        ):
            with pytest.raises(sqlite3.DatabaseError, match="append-only"):
                raw.execute(statement)
        raw.execute("DROP TRIGGER no_change")
        raw.execute("UPDATE entries SET steps = 1 WHERE n = 2")
    with pytest.raises(DataError, match="entry 2 was changed"):
        ledger.verify()


def test_rubbish_is_no_ledger(tmp_path):
    (tmp_path / "ledger.sqlite").write_bytes(b"rubbish" * 1000)
    with pytest.raises(DataError, match="without it nothing trains"):
        Ledger(tmp_path / "ledger.sqlite").reserve(PATIENTS, purpose(), STEPS, None)


@pytest.mark.slow
def test_two_processes_at_once_do_not_overspend(ledger, tmp_path):
    budget = Budget(epsilon([(1.0, 0.1, 55)], 1e-5), 1e-5)
    done = []

    def spend(k):
        for number in range(5):
            try:
                done.append(
                    Ledger(tmp_path / "ledger.sqlite").reserve(
                        PATIENTS, purpose(number, run=f"t{k}"), STEPS, budget
                    )
                )
            except RefusedError:
                return

    threads = [threading.Thread(target=spend, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == len(set(done)) == 5
    assert ledger.verify() == 5


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))  # for several test workers
def test_a_ledger_killed_at_100_random_points_never_shows_less_than_was_spent(tmp_path, seed):
    rng = np.random.default_rng(seed)
    path, log = tmp_path / "ledger.sqlite", tmp_path / "steps"
    log.touch()
    for kill in range(25):
        process = get_context("spawn").Process(target=spend_for_ever, args=(path, log, f"r{kill}"))
        size = log.stat().st_size
        process.start()
        while log.stat().st_size == size and process.is_alive():
            time.sleep(0.001)  # until it works
        time.sleep(float(rng.uniform(0, 0.02)))
        process.kill()
        process.join()
        spent = sum(n for _, _, n in Ledger(path).history())
        assert spent >= log.stat().st_size
    assert Ledger(path).verify() > 25
    assert spent <= log.stat().st_size + 10 * 25  # over-counted by one reservation a kill, at most


def test_patients_who_share_no_step_do_not_pay_for_each_other(tmp_path):
    """Training patients pay for the rounds, validation patients for the threshold: the most is what one paid."""
    ledger = Ledger(tmp_path / "ledger.sqlite")
    for patients, steps in ((["a", "b"], STEPS), (["c", "d"], (2.0, 1.0, 1))):
        ledger.reserve(patients, Purpose("p", "r1", 1), steps, None)
    assert sorted(map(list, ledger.histories())) == sorted([[STEPS], [(2.0, 1.0, 1)]])
    assert list(ledger.history_of(["d", "e"])) == [(2.0, 1.0, 1)]
    apart = summary(ledger, Budget(8.0, 1e-5))
    assert apart.epsilon_spent == pytest.approx(max(epsilon([STEPS], 1e-5), epsilon([(2.0, 1.0, 1)], 1e-5)))
    assert apart.runs[0].epsilon == apart.epsilon_spent
    assert apart.runs[0].rounds == 1
    ledger.reserve(["b", "c"], Purpose("q", "r2", 1), STEPS, None)
    both = summary(ledger, Budget(8.0, 1e-5))
    assert both.epsilon_spent == pytest.approx(epsilon([STEPS, STEPS, (2.0, 1.0, 1)], 1e-5))
    assert [len(one) for one in ledger.histories(("p", "r1"))] == [1, 1]
