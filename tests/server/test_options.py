import pytest

from common.errors import ConfigError
from server.options import server_at


def test_a_server_is_found_in_its_folder_and_nowhere_else(coordinator, tmp_path):
    assert server_at(coordinator.path).key == coordinator.key
    with pytest.raises(ConfigError, match="not a server's folder"):
        server_at(tmp_path)
