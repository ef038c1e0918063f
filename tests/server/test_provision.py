import pytest

from common.credentials import (
    make_key,
    write_key,
)
from common.errors import ConfigError
from server import renewal
from server.provision import admit, read_authority
from tests.helpers.local_sites import make_site


def test_the_ca_s_key_may_be_elsewhere(place, tmp_path):
    server, _, _ = place
    stick = tmp_path / "stick.key"
    server.ca_key.rename(stick)
    server.settings()  # as every command and `up` ask
    for act in (lambda key: renewal.renew_sites(server, key), lambda key: renewal.renew_server(server, key)):
        with pytest.raises(ConfigError, match="the CA's key is not here"):
            act(None)
        act(stick)
    write_key(tmp_path / "other.key", make_key())
    with pytest.raises(ConfigError, match="is not the key of"):
        read_authority(server, tmp_path / "other.key")
    request = make_site(tmp_path, "east", server, admitted=False).request
    with pytest.raises(ConfigError, match="the CA's key is not here"):
        admit(server, "east", request)
    assert admit(server, "east", request, stick).exists()
