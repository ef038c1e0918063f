"""Ours, deployed as deployed_round.py does: what a deployment runs, with its ClientApp."""

import deployed_round
import echo
from federation import Federation


def run(f: Federation) -> echo.Weights:
    """All rounds; returns the last weights."""
    d = deployed_round.deploy(f.folder, f.job.plan, f.job.sites)
    for name, words in deployed_round.commands(d, f.job.sites).items():
        f.start(name, words)
    f.wait("its sites' connections", lambda: len(d.status()["connected"]) == f.job.n_sites)
    name = d.run()
    d.wait_finished(name, timeout=f.left_s)
    return dict(d.weights(name))
