"""The coordinator's commands when nobody answers, or something that is not our server."""

import json
import socket
import threading

import pytest

from common.errors import RunError
from server.ask import ask, ask_status
from server.settings import ServerFolder


@pytest.fixture
def folder(tmp_path):
    return ServerFolder(tmp_path)


def answering(folder, body, code="200 OK"):
    """One HTTP answer on the socket, whatever is asked."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder.socket))
    listener.listen()

    def answer():
        connection, _ = listener.accept()
        with connection, listener:
            connection.recv(65536)
            head = f"HTTP/1.1 {code}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            connection.sendall(head.encode() + body)

    threading.Thread(target=answer, daemon=True).start()


def test_no_server_says_how_to_start_one(folder):
    with pytest.raises(RunError, match=r"no server is running in .*; start it with: pneumofed server up"):
        ask(folder, "/status")
    folder.socket.touch()  # what a killed server leaves is no socket that answers
    with pytest.raises(RunError, match="no server is running"):
        ask_status(folder)


@pytest.mark.parametrize("body", [b"", b"<html>", b"\xff\xfe"])
def test_an_answer_that_is_not_json_is_no_server_of_ours(folder, body):
    answering(folder, body)
    with pytest.raises(RunError, match="no server is running"):
        ask(folder, "/status")


def test_a_problem_is_one_line_and_a_good_answer_is_given_back(folder):
    answering(folder, json.dumps({"problem": "the run x is going on"}).encode(), "409 Conflict")
    with pytest.raises(RunError, match=r"^the run x is going on$"):
        ask(folder, "/run", {})
    folder.socket.unlink()
    answering(folder, b'{"run": "x"}')
    assert ask(folder, "/stop", {}) == {"run": "x"}


def test_a_server_of_another_version_is_told_apart(folder):
    answering(folder, json.dumps({"running": None, "runs": {}, "connected": [], "new": 1}).encode())
    with pytest.raises(RunError, match=r"new: .*; ask with the pneumofed that the server runs with"):
        ask_status(folder)
