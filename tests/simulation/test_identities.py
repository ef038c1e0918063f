"""Simulated hospitals confirm each other, and a secure simulation has the plain one's weights."""

import numpy as np
import pytest
from safetensors.numpy import load_file

from client.governance.peers import Peers
from common.config import dump_yaml
from common.credentials import read_key
from common.secure.keys import fingerprint_of, identity_of
from simulation.identities import introduce
from simulation.scenario import PhantomData
from tests.helpers.command import refused
from tests.helpers.plans import small_scenario


def test_each_knows_all_others_and_a_resumed_run_the_same(tmp_path):
    known = introduce(tmp_path, ["a", "b", "c"])
    shown = {site: fingerprint_of(identity_of(read_key(one.key))) for site, one in known.items()}
    assert len(set(shown.values())) == 3
    for site, one in known.items():
        assert Peers(one.peers).confirmed() == {peer: p for peer, p in shown.items() if peer != site}
    assert introduce(tmp_path, ["a", "b", "c"]) == known
    assert {s: fingerprint_of(identity_of(read_key(o.key))) for s, o in known.items()} == shown
    again = introduce(tmp_path / "again", ["a", "b", "c"])  # a simulation gives the same bits again
    assert {s: fingerprint_of(identity_of(read_key(o.key))) for s, o in again.items()} == shown


SECURE = ("--set", "aggregation.secure=true", "--set", "aggregation.threshold=2")


@pytest.fixture
def plan(tmp_path):
    scenario = small_scenario(rounds=2, data=PhantomData(sites=3, patients=24))
    (tmp_path / "plan.yaml").write_text(dump_yaml(scenario))
    return "plan.yaml"


@pytest.mark.slow
def test_a_secure_simulation_ends_with_the_same_weights_in_one_process_or_several(here, plan, tmp_path):
    quick = ("--set", "simulation.arms=[]", "--set", "simulation.threads=1")
    ways = {
        "plain": (),
        "secure": SECURE,
        "pool": (*SECURE, "--set", "simulation.engine=pool", "--set", "simulation.workers=2"),
    }
    for name, more in ways.items():
        done = here("simulate", plan, "--out", name, *quick, *more)
        assert done.returncode == 0, done.stderr
    plain, *others = (load_file(tmp_path / name / "model.safetensors") for name in ways)
    for weights in others:
        assert all(np.array_equal(weights[name], plain[name]) for name in plain)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (("--set", "aggregation.secure=true"), "secure and threshold go together"),
        (("--set", "aggregation.threshold=2"), "secure and threshold go together"),
        ((*SECURE, "--set", "codec={name: int4, top: 0.1}"), "codec.top leaves out most numbers"),
        ((*SECURE, "--set", "strategy.name=Krum"), "strategy Krum looks at single updates"),
        ((*SECURE, "--set", "simulation.engine=ray"), "set simulation.engine pool"),
        ((*SECURE, "--set", "simulation.hostile={hospital-a: -5.0}"), "changes single updates"),
        (("--set", "aggregation.secure=true", "--set", "aggregation.threshold=9"), "threshold is 9"),
    ],
)
def test_what_cannot_be_is_one_line(here, plan, changes, said):
    refused(here("simulate", plan, "--out", "run", *changes), said)
