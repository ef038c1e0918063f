"""What crosses in a stage has a shape; anything else is no message of it."""

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from common import wire
from common.errors import WireError
from common.secure import messages as secure
from common.secure.keys import SEALED_BYTES
from common.secure.shamir import SHARE_BYTES

EXAMPLES = {
    secure.SEALED: secure.Sealed(shares={"north": "ab" * SEALED_BYTES}),
    secure.SURVIVORS: secure.Survivors(sites=("north", "south")),
    secure.SIGNATURES: secure.Signatures(by_site={"north": "abcd"}),
    secure.REVEALED: secure.Revealed(shares={"north": "ab" * SHARE_BYTES}),
}


@pytest.mark.parametrize("key", EXAMPLES)
def test_what_is_put_is_taken(key):
    content = RecordDict({wire.CONFIG: ConfigRecord({"other": "stays"})})
    secure.put(content, key, EXAMPLES[key])
    assert secure.take(content, key, secure.KINDS[key]) == EXAMPLES[key]
    assert content.config_records[wire.CONFIG]["other"] == "stays"


@given(st.sampled_from(sorted(secure.KINDS)), st.text(max_size=60))
def test_rubbish_is_refused(key, text):
    content = RecordDict({wire.CONFIG: ConfigRecord({key: text})})
    with pytest.raises(WireError):
        secure.take(content, key, secure.KINDS[key])


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (secure.SEALED, '{"shares": {"north": "abcd"}}'),
        (secure.REVEALED, '{"shares": {"north": "' + "AB" * SHARE_BYTES + '"}}'),
        (secure.REVEALED, '{"shares": {"": "' + "ab" * SHARE_BYTES + '"}}'),
        (secure.SURVIVORS, '{"sites": ["north"], "more": 1}'),
        (secure.ROSTER, '{"adverts": [], "weights": {"north": 0.0}}'),
        (secure.ROSTER, '{"adverts": [], "weights": {"north": 1e9}}'),
        (secure.ROSTER, '{"adverts": [], "weights": {}, "bounds": {"w": 0.0}}'),
        (secure.ROSTER, '{"adverts": [], "weights": {}, "bounds": {"w": 1e7}}'),
        (secure.SIGNATURES, '{"by_site": {"north": "abc"}}'),
    ],
)
def test_another_shape_is_refused(key, text):
    content = RecordDict({wire.CONFIG: ConfigRecord({key: text})})
    with pytest.raises(WireError, match=f"the text '{key}'"):
        secure.take(content, key, secure.KINDS[key])


@pytest.mark.parametrize("text", ["", "abc", "zz"])
def test_a_signature_is_hex(text):
    with pytest.raises(WireError, match="is not hex"):
        secure.take_signature(RecordDict({wire.CONFIG: ConfigRecord({secure.SIGNATURE: text})}))


def test_a_masked_update_is_one_array_of_the_agreed_length():
    vector = np.arange(5, dtype=np.uint64)
    record = secure.pack_masked(vector, 64)
    np.testing.assert_array_equal(secure.unpack_masked(record, 5, 64), vector)
    with pytest.raises(WireError, match="bytes of a masked update"):
        secure.unpack_masked(record, 6, 64)
    other = ArrayRecord({"other": Array("uint8", (40,), "other", vector.tobytes())})
    with pytest.raises(WireError, match="found the arrays"):
        secure.unpack_masked(other, 5, 64)
