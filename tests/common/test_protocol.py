"""Programs whose protocols are next to each other work together; of others, both say who must upgrade."""

import pytest

from common import protocol
from common.protocol import PROTOCOL, PROTOCOL_HEADER, VERSION_HEADER, headers, objection, program, version_of


@pytest.mark.parametrize("number", [PROTOCOL - 1, PROTOCOL, PROTOCOL + 1])
def test_neighbours_work_together(number):
    assert objection({PROTOCOL_HEADER: str(number)}, "north", "the server") is None


def test_a_program_of_before_there_were_numbers_speaks_the_first(monkeypatch):
    assert objection({}, "north", "the server") is None
    assert version_of({}) == "0.1.0 or older"
    monkeypatch.setattr(protocol, "PROTOCOL", 3)
    assert "north must upgrade" in str(objection({}, "north", "the server"))


def test_both_sides_name_the_same_one(monkeypatch):
    """Whichever of the two is older."""
    for ours, theirs in ((2, 4), (4, 2)):
        monkeypatch.setattr(protocol, "PROTOCOL", ours)
        at_server = objection({PROTOCOL_HEADER: str(theirs), VERSION_HEADER: "9.9"}, "north", "the server")
        monkeypatch.setattr(protocol, "PROTOCOL", theirs)
        at_site = objection({PROTOCOL_HEADER: str(ours)}, "the server", "north")
        late = "the server" if ours < theirs else "north"
        assert at_server is not None
        assert at_site is not None
        assert at_server.endswith(f"{late} must upgrade")
        assert at_site.endswith(f"{late} must upgrade")
        assert f"north runs pneumofed 9.9 (protocol {theirs}), the server {program()}" in at_server


@pytest.mark.parametrize("text", ["0", "-1", "2.0", "9" * 400, "two", "\x1b[2J"])
def test_rubbish_is_refused_and_printed_as_it_may_be(text):
    why = objection({PROTOCOL_HEADER: text, VERSION_HEADER: "\x1b" * 100}, "north", "the server")
    assert why is not None
    assert "\x1b" not in why
    assert len(why) < 200


def test_what_we_say_of_ourselves_is_understood():
    assert objection(headers(), "north", "the server") is None
    assert version_of(headers()) == program()
