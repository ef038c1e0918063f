"""What goes wrong between a site and the server, in words that a hospital's IT can act on."""

import httpx
from flwr.app import Message

from common.errors import LinkError
from common.parsing import parse_json
from common.text import printable


class OverError(LinkError):
    """The run is over, or the server does not wait for this answer any more."""


class UnreadableError(LinkError):
    """What the server sent is no message, or a larger one than was agreed."""

    def __init__(self, why: str, head: Message | None) -> None:
        super().__init__(f"a request could not be read: {why}")
        self.why, self.head = why, head
        """Whom to answer; None if not even that can be read."""


class NotLetInError(LinkError):
    """The server does not take us for an admitted site, or has forgotten our session."""


def explain(error: Exception, server: str) -> str:
    """What went wrong between us and the server, in words that a hospital's IT can act on."""
    if isinstance(error, httpx.HTTPStatusError):
        return _explain_status(error.response, server)
    text = printable(str(error), 400)
    if isinstance(error, httpx.ProxyError):
        return f"the proxy does not let us through to {server}: {text[:120]}; ask for outbound CONNECT to it"
    if isinstance(error, httpx.TimeoutException):
        advice = "is outbound traffic to it allowed, or is a proxy needed (proxy in hospital.yaml)?"
        return f"{server}: no answer in time; {advice}"
    if "CERTIFICATE_VERIFY_FAILED" in text or "certificate verify failed" in text:
        reason = _after(text, "failed: ")
        return f"{server}: its certificate is not from our CA (ca.crt), or not for this name: {reason}"
    if "alert" in text.lower() or "SSL" in text:
        reason = _after(text, "] ")
        return (
            f"{server}: does not accept our certificate ({reason}); has the coordinator admitted this site?"
        )
    if "Name or service not known" in text or "getaddrinfo" in text or "name resolution" in text:
        return f"{server}: its name cannot be resolved; check server in hospital.yaml and the DNS"
    if "refused" in text:
        return f"{server}: refuses connections; is the server running, and is the port right?"
    return f"{server}: cannot be reached ({type(error).__name__}: {text[:120]})"


def _explain_status(response: httpx.Response, server: str) -> str:
    if response.status_code == httpx.codes.UNAUTHORIZED:
        return f"{server}: does not admit this site; was it admitted with this key, or revoked?"
    try:
        told = parse_json(response.content)
    except ValueError:
        told = None
    code = told.get("code") if isinstance(told, dict) else None
    if response.status_code == httpx.codes.CONFLICT:
        return (
            f"{server}: another machine, or a copy of this folder, uses this site's keys; stop one of "
            "the two (a site that has moved is let in within a minute)"
        )
    if response.status_code == httpx.codes.UPGRADE_REQUIRED:
        return f"{server}: {printable(response.text, 300)}"
    if code == 2004:
        return f"{server}: still takes this site's last session for alive; it ends within a minute"
    return f"{server}: answered {response.status_code} {response.reason_phrase}"


def _after(text: str, mark: str) -> str:
    return text.split(mark, 1)[-1].split(" (_ssl", 1)[0][:120]
