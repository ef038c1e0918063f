"""Whom a hospital counts on stands in one file, as people said it."""

import pytest

from client.governance.peers import Peers
from client.secure import Party, SecureRounds
from common.credentials import make_key
from common.errors import ConfigError
from common.secure.keys import Moment
from common.secure.messages import Objection

PRINT = "ABCD 0123 4567 89EF ABCD 0123 4567 89EF"


def test_confirmed_whichever_way_it_was_written_down(tmp_path):
    peers = Peers(tmp_path / "peers.json")
    assert peers.confirmed() == {}
    peers.confirm("north", PRINT.lower().replace(" ", ":"))
    peers.confirm("south", PRINT.replace(" ", ""))
    assert Peers(tmp_path / "peers.json").confirmed() == {"north": PRINT, "south": PRINT}
    peers.revoke("north")
    assert sorted(peers.confirmed()) == ["south"]


@pytest.mark.parametrize("text", ["", "ABCD", PRINT + " 00", "XYZW" * 8])
def test_a_fingerprint_has_32_digits(tmp_path, text):
    with pytest.raises(ConfigError, match="expected 32 hex digits"):
        Peers(tmp_path / "peers.json").confirm("north", text)


def test_who_is_not_known_cannot_be_revoked(tmp_path):
    with pytest.raises(ConfigError, match="'north' is no confirmed peer; known: none"):
        Peers(tmp_path / "peers.json").revoke("north")


@pytest.mark.parametrize("text", ["{", "[]", '{"north": "XY"}'])
def test_a_broken_file_confirms_nobody(tmp_path, text):
    (tmp_path / "peers.json").write_text(text)
    with pytest.raises(ConfigError):
        Peers(tmp_path / "peers.json").confirmed()


def test_an_identity_goes_with_its_name(tmp_path):
    peers, key = Peers(tmp_path / "peers.json"), make_key()
    advert = SecureRounds().begin(Party(key, "north", 2, peers, tmp_path), Moment("a", "r", 1)).advert
    assert peers.objections([advert]) == {"north": Objection.UNKNOWN}
    peers.confirm("south", advert.fingerprint)
    assert peers.objections([advert]) == {"north": Objection.UNKNOWN}
    peers.confirm("north", PRINT)
    assert peers.objections([advert]) == {"north": Objection.OTHER_KEY}
    peers.confirm("north", advert.fingerprint)
    assert peers.objections([advert]) == {}
