import pytest

from common.credentials import make_key
from common.errors import WireError
from common.trust import Trust, is_told_by, sign_authorities
from server.certificates import Authority


@pytest.mark.parametrize("tree", [None, [], {"authorities": 3}, {"more": ""}, {"revoked": "x" * 1_000_001}])
def test_trust_that_is_not_readable_is_refused(tree):
    with pytest.raises(WireError):
        Trust.parse(tree)


@pytest.mark.parametrize("signature", ["é", "not base64", "", "AAAA", "\ud800"])
@pytest.mark.parametrize("authorities", ["\ud800", "x", ""])
def test_whatever_a_server_signs_with_is_no_signature_and_raises_nothing(signature, authorities):
    """An agent that it ended would end again at every start."""
    authority = Authority.new("a CA", make_key())
    assert not is_told_by(Trust(authorities=authorities, signature=signature), [authority.certificate])
    assert is_told_by(
        Trust(authorities="x", signature=sign_authorities("x", authority.key)), [authority.certificate]
    )
