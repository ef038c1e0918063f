"""How the coordinator's commands ask the running server: the other end of server/control.py, with few imports
to start fast."""

from collections.abc import Mapping

import httpx

from common.errors import RunError
from common.results.form import parse
from common.results.status import Status
from server.settings import ServerFolder


def ask(folder: ServerFolder, path: str, body: Mapping[str, object] | None = None) -> dict[str, object]:
    """One request to the running server, and its answer: GET without a body, POST with one.

    Raises:
        RunError: no server is running in the folder, or it says what is wrong.
    """
    answer: dict[str, object] = _request(folder, path, body).json()
    return answer


def ask_status(folder: ServerFolder) -> Status:
    """What the running server is doing. Raises RunError as `ask` does."""
    return parse(Status, _request(folder, "/status", None).content, "the server's status", _OTHER_VERSION)


_OTHER_VERSION = "ask with the pneumofed that the server runs with"


def _request(folder: ServerFolder, path: str, body: Mapping[str, object] | None) -> httpx.Response:
    # No TLS on a Unix socket: the certificates of the world's authorities took 40 ms to load.
    transport = httpx.HTTPTransport(uds=str(folder.socket.resolve()), verify=False)
    with httpx.Client(transport=transport, base_url="http://server", timeout=60, trust_env=False) as client:
        try:
            response = client.get(path) if body is None else client.post(path, json=body)
            answer = response.json()
        except PermissionError:
            raise RunError(f"{folder.socket}: only the owner of the server may use it") from None
        except (httpx.TransportError, ValueError):
            raise RunError(
                f"no server is running in {folder.path}; start it with: pneumofed server up --dir "
                f"{folder.path}"
            ) from None
    if response.status_code != httpx.codes.OK:
        raise RunError(str(answer.get("problem", answer)))
    return response
