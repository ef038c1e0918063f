"""Only the Flower that this program was made for is taken."""

import pytest

from common import flower
from common.errors import RunError


def test_the_installed_flower_is_the_one_that_this_was_made_for():
    flower.require_flower()


@pytest.mark.parametrize("other", ["1.40.9", "1.42.0", "1.4.1", "2.41.0"])
def test_any_other_is_refused_in_one_line(monkeypatch, other):
    monkeypatch.setattr(flower, "version", lambda name: other)
    with pytest.raises(RunError, match=f"found flwr {other}, this program was made for 1.41.x") as e:
        flower.require_flower()
    assert "\n" not in str(e.value)
