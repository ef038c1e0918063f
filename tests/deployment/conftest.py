"""Deployments, each in a folder of its own, ended when the test ends."""

import os
import shutil
import time
from pathlib import Path

import pytest

from common.plan import Plan
from tests.helpers.deployment import Deployment
from tests.helpers.federation import Federation
from tests.helpers.plans import deployed_plan


@pytest.fixture
def machines():
    """(plan, names) -> a Federation of machines with a site of each name, admitted, with a cohort and an approval."""
    made: list[Federation] = []
    path = Path("/tmp") / f"pm-{os.getpid()}-{time.monotonic_ns() % 10**9}"  # a socket's path is short

    def make(plan: Plan, *names: str, env: dict[str, str] | None = None) -> Federation:
        path.mkdir(mode=0o700)
        made.append(Federation(path, plan, *names, env=env))
        return made[0]

    yield make
    for federation in made:
        federation.end()
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def deployment(tmp_path):
    """plan -> a Deployment with a server folder and sites site-1 … site-n, admitted, with cohorts and
    approvals."""
    made: list[Deployment] = []
    # A Unix socket's path is short: the folder of a long test name may be too long for it.
    path = Path("/tmp") / f"pf-{os.getpid()}-{time.monotonic_ns() % 10**9}"

    def make(n_sites: int = 3, plan: Plan | None = None, approve: bool = True, **settings) -> Deployment:
        path.mkdir(mode=0o700)
        d = Deployment(path, plan or deployed_plan())
        made.append(d)
        d.make_server(**settings)
        names = [f"site-{i}" for i in range(1, n_sites + 1)]
        for name in names:
            d.make_site(name)
        if approve:
            d.approve(*names)
        return d

    yield make
    for d in made:
        for name in list(d.processes):
            d.kill(name)
    shutil.rmtree(path, ignore_errors=True)
