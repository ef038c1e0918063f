import threading

import pytest

from common.credentials import (
    make_key,
    write_key,
)
from common.errors import ConfigError
from server import renewal
from server.provision import Admissions, admit, read_authority, read_sites, revoke
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


def test_whoever_is_admitted_or_revoked_at_once_with_others_is(place, tmp_path):
    """A list that two commands read, changed and wrote lost what the first had done, and both said well."""
    server, _, _ = place
    names = [f"new-{k}" for k in range(6)]
    requests = {name: make_site(tmp_path, name, server, admitted=False).request for name in names}
    acts = [threading.Thread(target=admit, args=(server, name, requests[name])) for name in names]
    acts.append(threading.Thread(target=revoke, args=(server, "north")))
    for act in acts:
        act.start()
    for act in acts:
        act.join()
    assert {site.name for site in Admissions(server.sites).current().values()} == {"south", *names}
    assert [site.name for site in read_sites(server.sites) if site.revoked] == ["north"]
