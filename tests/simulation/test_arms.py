"""Where each arm keeps what its sites keep: no two share a folder."""

from itertools import product
from pathlib import Path

from simulation.arms import CENTRALISED, FEDERATED, local_arm, memory_folder


def test_no_two_arms_or_sites_share_a_memory():
    sites = ["a", "b", "federated"]
    arms = [FEDERATED, CENTRALISED, *map(local_arm, sites)]
    assert len(set(arms)) == len(arms)
    folders = {memory_folder(Path("run"), arm, site) for arm, site in product(arms, sites)}
    assert len(folders) == len(arms) * len(sites)
    assert all(Path("run/arms") in folder.parents for folder in folders)
