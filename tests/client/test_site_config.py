"""A site's configuration goes to Flower's node strings and back, and nothing rides along."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.governance.ledger import Budget
from client.site_config import KEYS, SiteConfig
from common.errors import ConfigError

PATHS = st.lists(st.text('abcé ._-:;["', min_size=1, max_size=8), min_size=1, max_size=3).map(
    lambda parts: Path("/", *parts).resolve()
)
CONFIGS = st.builds(
    SiteConfig,
    site=st.text(min_size=1, max_size=20),
    cohorts=st.lists(PATHS, min_size=1, max_size=3).map(tuple),
    plan=PATHS,
    device=st.sampled_from(["auto", "cpu", "cuda:1"]),
    min_patients=st.integers(0, 1000),
    ledger=st.none() | PATHS,
    memory=st.none() | PATHS,
    alone=st.none() | PATHS,
    pretrained=st.none() | PATHS,
    budget=st.none() | st.builds(Budget, st.floats(0.01, 100), st.floats(1e-9, 0.1)),
    hostile=st.none() | st.floats(-10, 10),
)


@given(CONFIGS)
def test_there_and_back(config):
    node = config.to_node()
    assert set(node) <= set(KEYS)
    assert all(isinstance(value, (str, int, float)) for value in node.values())
    assert SiteConfig.from_node(node) == config


@pytest.mark.parametrize(
    ("node", "says"),
    [
        ({"site": "a", "cohorts": "c", "plan": "p", "plam": "q"}, "'plam': unknown key"),
        ({"site": "a", "plan": "p"}, "cohorts: missing"),
        ({}, "site: missing"),
    ],
)
def test_what_is_odd_is_named(node, says):
    with pytest.raises(ConfigError, match=says):
        SiteConfig.from_node(node)


def test_several_cohorts_are_parted_as_in_path():
    config = SiteConfig.from_node({"site": "a", "cohorts": f"/x{os.pathsep}/y", "plan": "/p"})
    assert config.cohorts == (Path("/x"), Path("/y"))
