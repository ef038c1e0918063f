import pytest

from client.options import site_at
from common.errors import ConfigError
from tests.helpers.local_sites import make_site


def test_a_site_is_found_in_its_folder_and_nowhere_else(coordinator, tmp_path):
    site = make_site(tmp_path, "site-1", coordinator)
    assert site_at(site.path).key == site.key
    with pytest.raises(ConfigError, match="not a hospital's folder"):
        site_at(tmp_path)
