"""A site that spends on its patients until it is killed."""

import time

from client.governance.ledger import Ledger, Purpose

PATIENTS = [f"{i:032x}" for i in range(50)]


def spend_for_ever(path, log, run):
    """Of each round three steps are trained, after ten were reserved; each leaves a byte in `log`."""
    ledger, steps = Ledger(path), log.open("ab", buffering=0)
    for number in range(1, 100_000):
        entry = ledger.reserve(PATIENTS, Purpose("p" * 64, run, number), (1.0, 0.1, 10), None)
        for _ in range(3):
            steps.write(b"s")
            time.sleep(0.0003)
        ledger.settle(entry, 3)
