"""How the coordinator's commands ask the running server: the other end of server/control.py, with few imports
to start fast."""

from collections.abc import Callable
from typing import Any

import httpx

from common.errors import RunError
from server.settings import ServerFolder


def ask(folder: ServerFolder, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """One request to the running server: GET without a body, POST with one.

    Raises:
        RunError: no server is running in the folder, or it says what is wrong.
    """
    transport = httpx.HTTPTransport(uds=str(folder.socket.resolve()))
    with httpx.Client(transport=transport, base_url="http://server", timeout=60, trust_env=False) as client:
        call: Callable[[], httpx.Response] = (
            (lambda: client.get(path)) if body is None else (lambda: client.post(path, json=body))
        )
        try:
            response = call()
            answer: dict[str, Any] = response.json()
        except PermissionError:
            raise RunError(f"{folder.socket}: only the owner of the server may use it") from None
        except (httpx.TransportError, ValueError):
            raise RunError(
                f"no server is running in {folder.path}; start it with: pneumofed server up --dir "
                f"{folder.path}"
            ) from None
    if response.status_code != httpx.codes.OK:
        raise RunError(str(answer.get("problem", answer)))
    return answer
