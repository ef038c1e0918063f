import pytest

from common.errors import WireError
from common.trust import Trust


@pytest.mark.parametrize("tree", [None, [], {"authorities": 3}, {"more": ""}, {"revoked": "x" * 1_000_001}])
def test_trust_that_is_not_readable_is_refused(tree):
    with pytest.raises(WireError):
        Trust.parse(tree)
