"""Which slices are a volume, and which volume is taken; compared with geometry worked out by hand."""

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.imaging.dicom import Header, Stack
from client.imaging.facts.image_kind import Kind
from client.imaging.outcome import Reason, Tally
from client.imaging.sequence import order_headers

UP, TILTED, CORONAL, SAGITTAL = (0.0, 0.0, 1.0), (0.0, 0.5, 0.866), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)


def slice_(uid, z, series="1", normal=UP, *, more=None, **fields):
    return Header(
        Path(f"{uid}.dcm"),
        "P",
        uid,
        series,
        None,
        z,
        "scanner",
        (4, 4),
        stack=Stack(normal, **(more or {})),
        **fields,
    )


def scan(name, places, series="1", normal=UP, **fields):
    return [slice_(f"{name}{i:03d}", z, series, normal, **fields) for i, z in enumerate(places)]


def taken(*groups):
    tally = Tally()
    kept = order_headers([h for group in groups for h in group], "ct", tally)
    return {h.uid[0] for h in kept}, [h.position for h in kept], tally


def test_other_directions_never_enter():
    axial = scan("a", range(6))
    for stray in (scan("c", range(9), "2", CORONAL), scan("s", [2.5], normal=SAGITTAL)):
        names, places, tally = taken(axial, stray)
        assert (names, places) == ({"a"}, list(range(6)))
        assert tally.counts[Reason.NOT_AXIAL] == len(stray)
    assert taken(scan("t", range(4), normal=TILTED))[1] == [0, 1, 2, 3]
    assert taken(scan("c", range(9), "2", CORONAL))[1] == []


def test_two_kernels_slice_by_slice_are_two_volumes():
    soft = scan("s", range(5), more={"kernel": "B30f"})
    hard = scan("h", np.arange(0.5, 4.5), more={"kernel": "B70f"})
    names, places, tally = taken(soft, hard)
    assert (names, places) == ({"s"}, [0, 1, 2, 3, 4])
    assert tally.counts[Reason.OTHER_SERIES] == 4
    assert tally.counts[Reason.SLICES_MISSING] == 0


def test_two_frames_of_reference_are_two_volumes():
    assert taken(
        scan("a", range(4), more={"frame_of_reference": "1"}),
        scan("b", [9, 10], more={"frame_of_reference": "2"}),
    )[0] == {"a"}


@pytest.mark.parametrize("field", ["acquisition", "moment", "echo"])
def test_passes_over_one_place_are_parted_and_steps_are_not(field):
    first, second = scan("a", range(5), more={field: "1"}), scan("b", np.arange(0.3, 4), more={field: "2"})
    assert taken(first, second)[0] == {"a"}
    steps = [scan(name, [2 * k, 2 * k + 1], more={field: str(k)}) for k, name in enumerate("abc")]
    assert taken(*steps)[1] == [0, 1, 2, 3, 4, 5]
    tracking = scan("t", [2.0] * 8, more={field: "9"})
    assert taken(first, tracking)[1] == [0, 1, 2, 3, 4]
    numbered = [replace(h, number=float(k)) for k, h in enumerate([*first, *tracking])]
    assert taken(numbered)[1] == [0, 1, 2, 3, 4]  # eight numbers are not eight places


def test_one_place_again_and_again_is_no_volume():
    """A scanner that waits for the contrast agent: numbers differ, and everything else says one place."""
    waiting = [slice_(f"w{k}", 2.0, "2", number=float(k), location=2.0) for k in range(20)]
    assert taken(scan("s", range(5)), waiting)[0] == {"s"}


def test_thick_slices_among_thin_ones_are_parted():
    thin, thick = scan("n", range(9), thickness=1.0), scan("k", [0.5, 5.5], thickness=5.0)
    assert taken(thin, thick)[0] == {"n"}


def test_the_chest_is_taken_before_the_head_then_originals_then_most_places_then_thin_ones():
    chest, head = scan("c", range(5), "1", body="chest"), scan("h", range(50), "2")
    assert taken(chest, head)[0] == {"c"}
    derived = scan("d", range(8), "3", kind=Kind.DERIVED)
    assert taken(scan("o", range(6), "1"), derived)[0] == {"o"}
    assert taken(scan("o", range(3), "1"), derived)[0] == {"d"}  # three of eight places are no scan
    assert taken(scan("f", range(4), "1", thickness=1.0), scan("g", range(4), "2", thickness=3.0))[0] == {"f"}


def test_another_part_of_the_body_never_enters():
    names, _, tally = taken(scan("c", range(3), "1", body="chest"), scan("h", range(30), "2", body="other"))
    assert names == {"c"}
    assert tally.counts[Reason.NOT_CHEST] == 30


@pytest.mark.parametrize(("field", "how"), [("location", "slice location"), ("number", "instance number")])
def test_one_place_for_all_falls_back(field, how):
    flat = [slice_(f"a{k}", 0.0, **{field: float(5 - k)}) for k in range(5)]
    tally = Tally()
    kept = order_headers(flat, "ct", tally)
    assert [h.uid for h in kept] == ["a4", "a3", "a2", "a1", "a0"]
    assert {h.placed_by for h in kept} == {how}
    assert tally.counts[Reason.PLACED_BY_NUMBER] == 5


slices = st.builds(
    lambda n, z, series, normal, kernel, acquisition, kind: slice_(
        f"u{n}", z, series, normal, more={"kernel": kernel, "acquisition": acquisition}, kind=kind
    ),
    st.integers(0, 999), st.sampled_from([0.0, 1.0, 1.5, 2.0, 7.0]), st.sampled_from("12"),
    st.sampled_from([UP, CORONAL, None]), st.sampled_from(["", "B"]), st.sampled_from(["1", "2"]), st.sampled_from(list(Kind)),
)  # fmt: skip


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(st.lists(slices, max_size=12, unique_by=lambda h: h.uid), st.randoms())
def test_the_choice_depends_on_the_slices_alone(some, random):
    shuffled = random.sample(some, len(some))
    tally, again = Tally(), Tally()
    first = [h.uid for h in order_headers(some, "ct", tally)]
    assert [h.uid for h in order_headers(shuffled, "ct", again)] == first
    assert tally == again
    chosen = [h for h in some if h.uid in first]
    assert len({(h.series, h.stack.kernel, h.stack.normal) for h in chosen}) <= 1
    assert all(h.kind >= Kind.DERIVED and h.stack.normal != CORONAL for h in chosen)
    assert tally.skipped_files + len(first) == len(some)


def test_steps_of_which_one_begins_before_the_last_one_s_end_stay_together():
    """A scan in ten steps of four slices; the fourth begins 2.6 mm early."""
    steps = []
    for k in range(10):
        first = 20.0 * k - (2.6 + 5.0 if k == 3 else 0.0)
        more = {"acquisition": str(k + 1)}
        steps.append(scan(f"{k}x", [first + 5.0 * i for i in range(4)], more=more))
    _, places, tally = taken(*steps)
    assert len(places) == 36
    assert tally.counts[Reason.OTHER_SERIES] == 4


def test_two_whole_passes_are_two_volumes_still():
    first = scan("a", range(20), more={"acquisition": "1"})
    second = scan("b", [z + 0.5 for z in range(20)], more={"acquisition": "2"})
    names, places, _ = taken(first, second)
    assert len(names) == 1
    assert np.diff(places).tolist() == [1.0] * 19


def at(second, **more):
    return {"time": datetime(2024, 1, 1, 10, 0, second), **more}


def test_two_phases_in_one_series_without_numbers_are_two_volumes():
    first = [replace(h, **at(0)) for h in scan("a", range(0, 100, 5))]
    second = [replace(h, **at(40)) for h in scan("b", [z + 2.5 for z in range(0, 100, 5)])]
    names, places, _ = taken(first, second)
    assert len(names) == 1
    assert np.diff(places).tolist() == [5.0] * 19


@pytest.mark.parametrize("slices_a_time", [1, 2, 4])
def test_a_scan_with_a_time_for_each_step_is_one_volume(slices_a_time):
    slices = scan("a", range(40))
    timed = [replace(h, **at(k // slices_a_time)) for k, h in enumerate(slices)]
    assert len(taken(timed)[1]) == 40


def test_two_phases_of_two_places_are_not_joined_crosswise():
    """Chest and abdomen, arterial and venous, each an acquisition: which belong together nobody says."""
    chest, abdomen = range(100, 200), range(100)
    steps = [("a", chest, "1"), ("b", abdomen, "2"), ("c", chest, "3"), ("d", abdomen, "4")]
    groups = [scan(name, places, more={"acquisition": number}) for name, places, number in steps]
    names, places, _ = taken(*groups)
    assert len(names) == 1
    assert len(places) == 100


def test_a_part_that_is_not_known_is_not_taken_before_the_chest():
    chest, liver = scan("a", range(60), "1", body="chest"), scan("b", range(200), "2", body="strange")
    assert taken(chest, liver)[0] == {"a"}


def test_times_that_part_a_scan_at_random_part_nothing():
    rng = np.random.default_rng(0)
    slices = [replace(h, **at(int(rng.integers(2)))) for h in scan("a", range(120))]
    assert len(taken(slices)[1]) == 120
