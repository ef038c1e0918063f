"""Notices: by a command, by a real SMTP server; once a day; and what fails costs nothing."""

import ssl
import sys
import threading
import time

import pytest
from aiosmtpd.controller import Controller

from common import notices
from common.config import validate
from common.errors import ConfigError
from common.notices import Herald, Mail, Notices, send
from tests.helpers.deployment import free_port, wait_for


class Inbox:
    """What a mail server takes."""

    def __init__(self):
        self.mails = []

    async def handle_DATA(self, server, session, envelope):
        self.mails.append((envelope.mail_from, envelope.rcpt_tos, envelope.content.decode()))
        return "250 OK"


@pytest.fixture
def smtp():
    inbox = Inbox()
    controller = Controller(inbox, hostname="127.0.0.1", port=free_port())
    controller.start()
    yield inbox, f"127.0.0.1:{controller.port}"
    controller.stop()


def mail(server, **more):
    return Notices(
        mail=Mail(server=server, sender="fed@example.org", to=("anna@example.org",), security="none", **more)
    )


def writing(path):
    """A command that appends what it is told."""
    code = f"import os, sys; open({str(path)!r}, 'a').write(os.environ['PNEUMOFED_SUBJECT'] + '|' + sys.stdin.read())"
    return Notices(command=(sys.executable, "-c", code))


def test_a_mail_arrives(smtp):
    inbox, server = smtp
    send(mail(server), "run small finished", "Nothing was wrong: äöü.")
    ((sender, to, text),) = inbox.mails
    assert (sender, to) == ("fed@example.org", ["anna@example.org"])
    assert "Subject: run small finished" in text
    assert "=C3=A4" in text or "äöü" in text or "w6TD" in text  # by whichever encoding


def test_a_command_is_told_what_and_about_what(tmp_path):
    send(writing(tmp_path / "told"), "a plan waits", "Plan 123")
    assert (tmp_path / "told").read_text() == "a plan waits|Plan 123\n"


def test_the_same_is_told_once_a_day_and_again_when_it_came_back(tmp_path):
    herald = Herald("st-mary", lambda: writing(tmp_path / "told"))
    for _ in range(3):
        herald.tell("lost north", "lost", "x")
    herald.tell("lost south", "lost", "y")
    herald.forget("lost north")
    herald.tell("lost north", "lost", "z")
    told = wait_for(
        "three notices", lambda: (p := tmp_path / "told").exists() and p.read_text().count("\n") == 3 and p
    )
    assert sorted(told.read_text().splitlines()) == ["st-mary: lost|x", "st-mary: lost|y", "st-mary: lost|z"]


def test_foreign_text_is_printable_and_short(tmp_path):
    herald = Herald("st-mary", lambda: writing(tmp_path / "told"))
    herald.tell("a", "\x1b[31mred\nTo: all@example.org", "b\x00c" + "x" * 9000)
    told = wait_for("the notice", lambda: (p := tmp_path / "told").exists() and p.read_text()).split("|")
    assert "\x1b" not in told[0]
    assert "\n" not in told[0]
    assert "\x00" not in told[1]
    assert len(told[1]) < 2100


@pytest.mark.parametrize(
    "broken",
    [
        mail("127.0.0.1:9"),
        Notices(command=("/no/such/program",)),
        Notices(command=(sys.executable, "-c", "raise SystemExit(3)")),
        mail("127.0.0.1:9", user="anna", password="/no/such/file"),
    ],
)
def test_what_cannot_be_sent_is_logged_and_the_other_way_is_tried(tmp_path, caplog, broken):
    both = broken.model_copy(update={"command": writing(tmp_path / "told").command} if broken.mail else {})
    send(both, "s", "t")
    (record,) = [r for r in caplog.records if "could not be sent" in r.getMessage()]
    assert "anna" not in record.getMessage()
    assert (tmp_path / "told").exists() is (broken.mail is not None)


def test_a_server_without_tls_gets_nothing_where_tls_is_asked_for(smtp, caplog):
    inbox, server = smtp
    secured = Notices(mail=Mail(server=server, sender="fed@example.org", to=("anna@example.org",)))
    send(secured, "s", "t")
    assert inbox.mails == []
    assert "could not be sent by mail" in caplog.text
    assert ssl.HAS_TLSv1_3


def test_who_tells_is_not_held_up(tmp_path, monkeypatch):
    ended = threading.Event()
    monkeypatch.setattr(notices, "send", lambda *_: ended.wait(30))
    began = time.monotonic()
    Herald("st-mary", lambda: writing(tmp_path / "told")).tell("a", "b", "c")
    assert time.monotonic() - began < 10
    ended.set()


def test_nobody_is_told_where_nobody_is_named_or_the_settings_are_wrong(tmp_path, caplog):
    Herald("st-mary", lambda: None).tell("a", "b", "c")

    def wrong():
        raise ConfigError("hospital.yaml: notices: found 3")

    Herald("st-mary", wrong).tell("a", "b", "c")
    assert "a notice is not sent: hospital.yaml" in caplog.text


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"mail": {"server": "nohost", "sender": "abc", "to": ["x"]}},
        {"mail": {"server": "h:25", "sender": "abc", "to": []}},
    ],
)
def test_settings_that_tell_nobody_are_refused(given):
    with pytest.raises(ConfigError):
        validate(given, Notices, "hospital.yaml")
