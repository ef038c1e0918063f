"""Counting what fell out: sums, what is only noted, and that a path stands in the site's own log alone."""

import logging
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from client.imaging.outcome import NOTES, PATIENT_REASONS, Reason, Skipped, Tally

COUNTS = st.dictionaries(st.sampled_from(Reason), st.integers(1, 9))


def tally_of(counts):
    tally = Tally()
    for reason, n in counts.items():
        tally.add(reason, n)
    return tally


@given(COUNTS, COUNTS)
def test_tallies_add_up_and_come_back_from_json(one, other):
    both = tally_of(one) + tally_of(other)
    assert both.counts == {r: one.get(r, 0) + other.get(r, 0) for r in {**one, **other}}
    assert Tally.from_dict(both.as_dict()).counts == both.counts
    assert list(both.as_dict()) == [r.name.lower() for r in Reason if r in {**one, **other}]


@given(COUNTS)
def test_every_reason_counts_files_or_patients_or_what_is_used(counts):
    tally = tally_of(counts)
    files = sum(n for r, n in counts.items() if r not in PATIENT_REASONS and r not in NOTES)
    assert tally.skipped_files == files
    assert set(tally.left_out()) == {r.name.lower() for r in counts if r not in NOTES}


def test_paths_are_in_the_sites_own_log_and_images_without_one_are_counted(caplog):
    tally = Tally()
    with caplog.at_level(logging.INFO, "pneumofed.ingest"):
        tally.add_files(Reason.BROKEN, [Path("/images/smith.dcm"), None])
    assert tally.as_dict() == {"broken": 2}
    assert [record.name for record in caplog.records] == ["pneumofed.ingest"]
    assert "smith" in caplog.text


def test_a_skipped_file_says_why():
    assert str(Skipped(Reason.NO_TIME)) == "no date to order it by"
    assert len({reason.value for reason in Reason}) == len(Reason)
