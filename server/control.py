"""What the coordinator's commands ask of the running server: HTTP over a Unix socket that only its owner can
open."""

import contextlib
import os
import socket
import stat
import threading
from pathlib import Path

import uvicorn
from fastapi import Body, FastAPI, Request
from fastapi.responses import JSONResponse, Response

from common.config import validate
from common.errors import PneumofedError, RunError
from common.plan import Plan
from common.results.form import to_text
from common.text import quoted
from server.runner import Begun, Runner, Wish
from server.settings import ServerFolder

MAX_PATH = 100  # bytes in the address of a Unix socket, with some to spare


class ControlService:
    """Serves the runner's operations on `control.sock`."""

    def __init__(self, folder: ServerFolder, runner: Runner) -> None:
        self._socket = _listen(folder)
        config = uvicorn.Config(_make_app(runner), log_config=None, access_log=False, lifespan="off")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)

    def _run(self) -> None:
        with contextlib.suppress(SystemExit):
            self._server.run(sockets=[self._socket])

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=5)


def _listen(folder: ServerFolder) -> socket.socket:
    path = str(folder.socket.resolve())
    if len(path.encode()) > MAX_PATH:
        raise RunError(
            f"{path}: too long for a socket ({MAX_PATH} bytes at most); move the server's folder up"
        )
    mode = stat.S_IMODE(folder.path.stat().st_mode)
    if mode & 0o077:
        raise RunError(
            f"{folder.path}: its mode is {mode:o}, others could open the control socket; run: chmod 700 "
            f"{quoted(folder.path)}"
        )
    folder.socket.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    os.chmod(path, 0o600)
    return listener


def _make_app(runner: Runner) -> FastAPI:
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.exception_handler(PneumofedError)
    def problem(_: Request, e: Exception) -> JSONResponse:
        return JSONResponse({"problem": str(e)}, status_code=409)

    @app.get("/status")
    def status() -> Response:
        return Response(to_text(runner.status()), media_type="application/json")

    @app.post("/run")
    def run(
        plan: dict[str, object] = Body(),  # noqa: B008
        wish: Wish = Body(default=Wish()),  # noqa: B008
        pretrained: str | None = Body(default=None),
    ) -> Begun:
        file = Path(pretrained) if pretrained else None
        return runner.start(validate(plan, Plan, "plan"), wish, file)

    @app.post("/resume")
    def resume(run: str = Body(), wish: Wish = Body(default=Wish())) -> Begun:  # noqa: B008
        return runner.resume(run, wish)

    @app.post("/stop")
    def stop() -> dict[str, str]:
        return {"run": runner.stop()}

    @app.post("/cancel")
    def cancel(run: str = Body(embed=True)) -> dict[str, str]:
        runner.cancel(run)
        return {"run": run}

    return app
