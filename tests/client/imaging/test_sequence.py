from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from client.imaging.dicom import Header, read_headers
from client.imaging.facts.image_kind import Kind
from client.imaging.outcome import Reason, Tally
from client.imaging.sequence import choose, order_headers, place, sequence_of, to_frames, up_to_each
from common.plan import Input
from tests.helpers.dicom import image, save

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


def xray(uid, time, **fields):
    return Header(Path(f"{uid}.dcm"), "P", uid, "s", time, None, "scanner", (4, 4), view="frontal", **fields)


def test_times_of_several_zones_are_compared_as_moments():
    first = xray("a", datetime(2024, 1, 1, 12), offset=540)  # 03:00 UTC
    second = xray("b", datetime(2024, 1, 1, 10), offset=0)
    tally = Tally()
    ordered = order_headers([second, first], "xray", tally)
    assert [h.uid for h in ordered] == ["a", "b"]
    assert (ordered[1].time - ordered[0].time).total_seconds() == 7 * 3600
    assert tally.as_dict() == {}


def test_an_image_without_a_zone_is_of_the_nearest_in_time_and_noted():
    winter, summer = xray("w", datetime(2024, 1, 1), offset=60), xray("s", datetime(2024, 7, 1), offset=120)
    silent = xray("x", datetime(2024, 7, 1, 0, 30))
    tally = Tally()
    assert [h.uid for h in order_headers([silent, winter, summer], "xray", tally)] == ["w", "s", "x"]
    assert tally.as_dict() == {"zone_unsure": 1}
    alone = Tally()
    order_headers([silent, summer], "xray", alone)
    assert alone.as_dict() == {}


def test_a_day_without_a_time_is_noted_where_the_order_hangs_on_it():
    midnight = xray("a", datetime(2024, 1, 1), timed=False)
    tally = Tally()
    order_headers([midnight, xray("b", datetime(2024, 1, 2))], "xray", tally)
    assert tally.as_dict() == {}
    order_headers([midnight, xray("b", datetime(2024, 1, 1, 8))], "xray", tally)
    assert tally.as_dict() == {"order_unsure": 1}


def test_one_exposure_counts_once_and_a_capture_never_beside_an_original():
    shown = xray("b", datetime(2024, 1, 1), exposure="e")
    again = xray("a", datetime(2024, 1, 1), exposure="e", kind=Kind.DERIVED)
    raw, capture = (
        xray("r", datetime(2024, 1, 1), kind=Kind.RAW),
        xray("c", datetime(2024, 1, 3), kind=Kind.CAPTURE),
    )
    tally = Tally()
    assert order_headers([again, shown, raw, capture], "xray", tally) == [shown]
    assert tally.as_dict() == {"raw": 1, "capture": 1, "same_exposure": 1}
    only = Tally()
    assert order_headers([raw, capture], "xray", only) == [capture]
    assert only.as_dict() == {"raw": 1, "capture_used": 1}


def test_two_files_that_nothing_but_their_uids_put_in_order_are_noted(tmp_path):
    def films(**tags):
        files = []
        for k in (1, 2):
            ds = image(
                np.full((8, 8), k, np.uint16),
                SOPInstanceUID=f"1.2.{k}",
                StudyDate="20240101",
                StudyTime="101500",
            )
            del ds.AcquisitionDate, ds.AcquisitionTime
            ds.ViewPosition, ds.InstanceNumber = "PA", tags.get("number", k)
            files.append(save(ds, tmp_path / f"{len(list(tmp_path.iterdir()))}.dcm"))
        tally = Tally()
        order_headers([read_headers(path, "xray").images[0] for path in files], "xray", tally)
        return tally.counts[Reason.ORDER_UNSURE]

    assert films(number=1) == 2
    assert films() == 0


@given(st.lists(st.sampled_from("abcd"), max_size=12), st.sets(st.sampled_from("abcde")))
def test_a_visit_is_given_its_past_and_never_a_later_one(visits, known):
    images, tally = [header(i) for i in range(len(visits))], Tally()
    found = up_to_each(images, visits, known, tally)
    assert found.keys() == known & set(visits)
    for visit, some in found.items():
        last = max(i for i, name in enumerate(visits) if name == visit)
        assert some == images[: last + 1]
    assert [len(some) for some in found.values()] == sorted(len(some) for some in found.values())
    unused = len(images) - max((len(some) for some in found.values()), default=0)
    assert tally.counts[Reason.OTHER_STUDY] == unused


def test_a_sequence_knows_which_images_its_labels_are_about():
    images = [
        replace(header(i, time=datetime(2020, 1, 1 + i)), study=study) for i, study in enumerate("aabb")
    ]
    contract, unknown = Input(max_frames=3), np.full(1, np.nan, np.float32)
    assert sequence_of(images, unknown, contract, "study").own == to_frames(images, contract)[-2:]
    assert sequence_of(images, unknown, contract).own == to_frames(images, contract)
