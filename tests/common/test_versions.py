"""What numbers were made with is named."""

import platform
from importlib.metadata import version

from common.versions import versions


def test_every_one_has_its_number():
    found = versions()
    assert found["python"] == platform.python_version()
    assert found["torch"] == version("torch")
    assert all(found.values())
