from datetime import datetime, timedelta
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from client.imaging.dicom import Header
from client.imaging.outcome import Reason, Tally
from client.imaging.sequence import choose, order_headers, place, to_frames
from common.plan import Input

times = st.integers(0, 10**7).map(lambda s: datetime(2020, 1, 1) + timedelta(seconds=s))


def header(i, time=None, position=None, series="1", uid=None):
    return Header(
        Path(f"{hash((i, 7)) % 1000}.dcm"), "P", uid or f"uid-{i}", series, time, position, "scanner", (4, 4)
    )


@given(st.lists(times, min_size=1, max_size=20), st.randoms())
def test_xrays_are_ordered_by_time_whatever_the_order_of_reading(moments, random):
    headers = [header(i, time=t) for i, t in enumerate(moments)]
    ordered = order_headers(headers, "xray", Tally())
    assert [h.time for h in ordered] == sorted(moments)
    random.shuffle(headers)
    assert order_headers(headers, "xray", Tally()) == ordered


@given(
    st.lists(st.integers(-2000, 2000).map(lambda n: n / 4), min_size=1, max_size=20, unique=True),
    st.randoms(),
)
def test_slices_are_ordered_by_position(positions, random):
    headers = [header(i, position=p) for i, p in enumerate(positions)]
    random.shuffle(headers)
    assert [h.position for h in order_headers(headers, "ct", Tally())] == sorted(positions)


def test_the_series_with_most_slices_is_taken_and_the_rest_counted():
    headers = [header(i, position=float(i), series="long" if i < 5 else "short") for i in range(8)]
    tally = Tally()
    assert {h.series for h in order_headers(headers, "ct", tally)} == {"long"}
    assert tally.counts[Reason.OTHER_SERIES] == 3


def test_an_instance_counts_once():
    tally = Tally()
    twice = [header(i, time=datetime(2020, 1, 1), uid="same") for i in range(3)]
    assert len(order_headers(twice, "xray", tally)) == 1
    assert tally.counts[Reason.DUPLICATE] == 2


@given(st.integers(1, 200), st.integers(1, 30), st.sampled_from(["xray", "ct"]))
def test_chosen_frames_are_ordered_distinct_and_at_most_so_many(n, most, modality):
    chosen = choose(n, most, modality)
    assert len(chosen) == min(n, most)
    assert chosen == sorted(set(chosen))
    if modality == "xray":
        assert chosen[-1] == n - 1
    elif most > 1:
        assert (chosen[0], chosen[-1]) == (0, n - 1)


def test_frames_start_at_zero_and_are_placed_in_days_or_millimetres():
    start = datetime(2020, 1, 1)
    xrays = [header(i, time=start + timedelta(days=d)) for i, d in enumerate((0, 1.5, 9))]
    assert [f.position for f in to_frames(xrays, Input(max_frames=2))] == [1.5, 9.0]
    slices = [header(i, position=p) for i, p in enumerate((-10.0, -7.5, -5.0))]
    assert [f.position for f in to_frames(slices, Input(modality="ct"))] == [0.0, 2.5, 5.0]
    # An X-ray with a position is still placed by its time.
    assert (
        place(header(0, time=start + timedelta(days=1), position=99.0), "xray")
        - place(header(0, time=start), "xray")
        == 1.0
    )
