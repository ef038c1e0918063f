"""A word to people who do not look: by a command of theirs, or by mail.

A notice holds no patient, and nothing that a server or a site said but names and reasons that are printable.
That one cannot be sent is logged, and costs nothing else.
"""

import logging
import os
import smtplib
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from common.config import Settings
from common.credentials import require_private
from common.errors import PneumofedError
from common.text import printable

log = logging.getLogger("pneumofed.notices")
TIMEOUT_S = 30.0
AGAIN_S = 24 * 3600.0
"""How soon the same may be told again."""
LONGEST = 2000


class Mail(Settings):
    """An SMTP server that takes our mail."""

    server: str = Field(description="HOST:PORT", pattern=r"^[^\s:]+:\d{1,5}$")
    sender: str = Field(min_length=3, max_length=200)
    to: tuple[str, ...] = Field(strict=False, min_length=1, max_length=50)
    security: Literal["starttls", "tls", "none"] = "starttls"
    user: str | None = None
    password: str | None = Field(default=None, description="a file with the password, for its owner alone")


class Notices(Settings):
    """Who is told, and how."""

    command: tuple[str, ...] | None = Field(
        default=None, strict=False, description="program and arguments; the text comes on its standard input"
    )
    mail: Mail | None = None

    @model_validator(mode="after")
    def _has_a_way(self) -> "Notices":
        if not self.command and self.mail is None:
            raise ValueError("expected a command or mail")
        return self


class Herald:
    """Tells each thing once a day at most, without holding up whoever has something to tell.

    Args:
        settings: who is told, as the settings say now; None: nobody.
    """

    def __init__(self, whose: str, settings: Callable[[], Notices | None]) -> None:
        self._whose, self._settings = whose, settings
        self._told: dict[str, float] = {}

    def tell(self, key: str, subject: str, text: str) -> None:
        """`key` names what it is about: the same is not told twice within a day."""
        now = time.monotonic()
        if now - self._told.get(key, -AGAIN_S) < AGAIN_S:
            return
        if (notices := self._notices()) is None:
            return
        self._told[key] = now
        short = printable(f"{self._whose}: {subject}", 150), printable(text, LONGEST)
        threading.Thread(target=send, args=(notices, *short), name="notice", daemon=True).start()

    @property
    def heard(self) -> bool:
        """Whether anybody is told anything."""
        return self._notices() is not None

    def _notices(self) -> Notices | None:
        try:
            return self._settings()
        except PneumofedError as e:
            log.error("a notice is not sent: %s", e)
            return None

    def forget(self, key: str) -> None:
        """It is over: if it comes again it is told again."""
        self._told.pop(key, None)


def send(notices: Notices, subject: str, text: str) -> None:
    """By every way that the settings name; what fails is logged."""
    ways: dict[str, Callable[[], None]] = {}
    if (command := notices.command) is not None:
        ways["command"] = lambda: _run(command, subject, text)
    if (mail := notices.mail) is not None:
        ways["mail"] = lambda: _mail(mail, subject, text)
    for name, way in ways.items():
        try:
            way()
        except (OSError, ValueError, subprocess.SubprocessError, smtplib.SMTPException, PneumofedError) as e:
            log.error("a notice could not be sent by %s: %s", name, type(e).__name__)


def _run(command: tuple[str, ...], subject: str, text: str) -> None:
    environment = {**os.environ, "PNEUMOFED_SUBJECT": subject}
    subprocess.run(  # noqa: S603 - the command of the settings
        command, input=f"{text}\n", text=True, env=environment, timeout=TIMEOUT_S, check=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def _mail(mail: Mail, subject: str, text: str) -> None:
    message = EmailMessage()
    message["Subject"], message["From"], message["To"] = subject, mail.sender, ", ".join(mail.to)
    message.set_content(text)
    host, _, port = mail.server.rpartition(":")
    context = ssl.create_default_context()
    with (
        smtplib.SMTP_SSL(host, int(port), timeout=TIMEOUT_S, context=context)
        if mail.security == "tls"
        else smtplib.SMTP(host, int(port), timeout=TIMEOUT_S)
    ) as server:
        if mail.security == "starttls":
            server.starttls(context=context)
        if mail.user is not None and mail.password is not None:
            server.login(mail.user, _password(Path(mail.password).expanduser()))
        server.send_message(message)


def _password(path: Path) -> str:
    require_private(path)
    return path.read_text(encoding="utf-8").strip()
