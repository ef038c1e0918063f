"""`server up` where it must not start."""

import pytest

from common.errors import ConfigError, RunError
from common.files import held
from server import serve as module
from server.serve import serve
from server.settings import ServerFolder


def test_a_folder_that_is_none_and_a_second_server_are_refused(coordinator, tmp_path):
    with pytest.raises(ConfigError, match="not a server's folder"):
        serve(ServerFolder(tmp_path))
    with held(coordinator.lock, ""), pytest.raises(RunError, match="a server is running in it already"):
        serve(coordinator)
    assert not coordinator.socket.exists()


def test_another_flower_stops_it_before_anything_is_opened(coordinator, monkeypatch):
    def refuse():
        raise RunError("found flwr 9, this program was made for 1.41.x")

    monkeypatch.setattr(module, "require_flower", refuse)
    with pytest.raises(RunError, match="found flwr 9"):
        serve(coordinator)
    assert not coordinator.logs.exists()
