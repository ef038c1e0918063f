"""Images on the disk: what is there is whole, names are never from outside, and two halves of a study become one."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client.pacs.inbox import ARRIVING, Inbox


def visible(folder):
    return sorted(
        p.relative_to(folder).parts for p in folder.rglob("*.dcm") if not p.parent.name.startswith(".")
    )


def test_a_study_is_not_there_until_it_is_finished(tmp_path):
    inbox = Inbox(tmp_path / "in")
    inbox.put("1.2", "1.2.3", b"one")
    assert "1.2" not in inbox
    assert inbox.holds("1.2", "1.2.3")
    assert visible(inbox.folder) == []
    inbox.finish("1.2")
    assert "1.2" in inbox
    assert inbox.holds("1.2", "1.2.3")
    assert not inbox.holds("1.2", "1.2.4")
    assert not inbox.holds("1.3", "1.2.3")
    assert len(visible(inbox.folder)) == 1
    inbox.finish("never begun")


def test_what_arrives_later_joins_what_was_pushed(tmp_path):
    inbox = Inbox(tmp_path / "in")
    inbox.put_pushed("s", "a", b"a")
    inbox.put("s", "b", b"b")
    inbox.put("s", "a", b"a again")
    inbox.finish("s")
    assert {p.read_bytes() for p in inbox.folder.rglob("*.dcm")} == {b"a again", b"b"}
    assert not list(inbox.folder.glob(f"{ARRIVING}*"))


def test_only_the_owner_may_look(tmp_path):
    assert Inbox(tmp_path / "in").folder.stat().st_mode & 0o077 == 0


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(min_size=1), st.text(min_size=1))
def test_no_identifier_makes_a_path_of_its_own(tmp_path, study, image):
    inbox = Inbox(tmp_path / "in")
    inbox.put(study, image, b"x")
    inbox.finish(study)
    for path in tmp_path.rglob("*"):
        name = path.name.removesuffix(".dcm").removeprefix(ARRIVING)
        assert name == "in" or (len(name) == 32 and set(name) <= set("0123456789abcdef"))
