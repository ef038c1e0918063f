"""Bytes as a broken or hostile peer sends them."""

from hypothesis import strategies as st


@st.composite
def broken(draw, whole: bytes) -> bytes:
    """`whole` with bytes changed, cut out or put in at a few places; or anything short at all."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 5))):
        where = draw(st.integers(0, len(data)))
        kind = draw(st.sampled_from(["change", "cut", "insert"]))
        if kind == "change" and where < len(data):
            data[where] = draw(st.integers(0, 255))
        elif kind == "cut":
            del data[where : where + draw(st.integers(1, 40))]
        else:
            data[where:where] = draw(st.binary(min_size=1, max_size=12))
    return draw(st.sampled_from([bytes(data), draw(st.binary(max_size=80))]))
