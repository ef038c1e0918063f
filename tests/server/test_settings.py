"""server.yaml and the server's folder: what is wrong is named, and a key that others can read stops everything."""

import pytest

from common.config import validate
from common.errors import ConfigError
from server.settings import ServerFolder, ServerSettings


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({}, "host"),
        ({"host": ""}, "host"),
        ({"host": "x", "port": 0}, "port"),
        ({"host": "x", "port": 70000}, "port"),
        ({"host": "x", "metrics_port": "many"}, "metrics_port"),
        ({"host": "x", "socket": "/tmp/s"}, "socket: unknown key"),
    ],
)
def test_what_is_wrong_is_named(tree, said):
    with pytest.raises(ConfigError, match=said):
        validate(tree, ServerSettings, "server.yaml")


def test_a_folder_that_is_none_says_how_to_make_one(tmp_path):
    with pytest.raises(ConfigError, match="not a server's folder; make one with: pneumofed server init"):
        ServerFolder(tmp_path).settings()


def test_every_private_key_must_be_private_and_the_ca_s_may_be_elsewhere(coordinator):
    assert coordinator.settings().host == "localhost"
    for key in (coordinator.key, coordinator.signing_key, coordinator.ca_key):
        key.chmod(0o644)
        with pytest.raises(ConfigError, match=f"{key.name}: its mode is 644, others could read it"):
            coordinator.settings()
        key.chmod(0o600)
    coordinator.ca_key.unlink()
    assert coordinator.settings().port == 443
    coordinator.key.unlink()
    with pytest.raises(ConfigError, match="expected the file that init made"):
        coordinator.settings()
