"""Answers without end, compressed, or by drops: a server of this process that gives them."""

import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from client import bounded
from client.bounded import BoundedTransport


class Strange(BaseHTTPRequestHandler):
    def do_POST(self):
        self.send_response(200)
        if self.path == "/compressed":
            self.send_header("content-encoding", "gzip")
        self.end_headers()
        try:
            for _ in range(400):
                self.wfile.write(b"x" * (10 if self.path == "/slow" else 65536))
                time.sleep(0.05 if self.path == "/slow" else 0)
                if self.path == "/short":
                    return
        except OSError:
            return

    def log_message(self, *_):
        return


@pytest.fixture
def client():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Strange)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    transport = BoundedTransport(ssl.create_default_context(), None)
    with httpx.Client(transport=transport, base_url=f"http://127.0.0.1:{server.server_port}") as client:
        yield client
    server.shutdown()
    server.server_close()


def test_a_usual_answer_comes_through(client):
    assert len(client.post("/short").content) == 65536


def test_an_endless_answer_is_given_up(client):
    with pytest.raises(httpx.RemoteProtocolError, match="larger than"):
        client.post("/endless")


def test_an_answer_that_could_unpack_to_any_size_is_not_read(client):
    with pytest.raises(httpx.RemoteProtocolError, match="compressed"):
        client.post("/compressed")


def test_an_answer_by_drops_is_given_up(client, monkeypatch):
    monkeypatch.setattr(bounded, "LONGEST_S", 0.2)
    with pytest.raises(httpx.ReadTimeout, match="took longer"):
        client.post("/slow")
