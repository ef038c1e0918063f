"""Chest or not, by words of several languages."""

import pytest
from pydicom import Dataset, Sequence

from client.imaging.facts.body_part import body_part_of, by_words


@pytest.mark.parametrize(
    ("said", "part"),
    [
        *((word, "chest") for word in ("CHEST", "Thorax p.a.", "THORACIC", "RX TORAX", "Lunge", "CHESTABDPELVIS", "CT Chest Abdomen",
            "CXR", "Chest and spine")),
        *((word, "other") for word in ("HAND", "Knee AP", "ABDOMEN", "TSPINE", "T-SPINE AP", "THORACIC SPINE", "Schädel", "épaule",
            "L SHOULDER", "HEAD")),
        *((word, "unknown") for word in ("", "PA", "PORTABLE", "chestnut" [5:])),
    ],
)  # fmt: skip
def test_words_name_a_part(said, part):
    assert by_words(said) == part


def test_witnesses_that_differ_make_it_unsure():
    ds = Dataset()
    assert body_part_of(ds) == "unknown"
    ds.BodyPartExamined = "HAND"
    assert body_part_of(ds) == "other"
    ds.SeriesDescription = "Chest PA"
    assert body_part_of(ds) == "unsure"
    del ds.BodyPartExamined
    assert body_part_of(ds) == "chest"


def test_a_region_has_a_code():
    region = Dataset()
    region.CodeValue, region.CodeMeaning = "85562004", "Hand"
    ds = Dataset()
    ds.AnatomicRegionSequence = Sequence([region])
    assert body_part_of(ds) == "other"


@pytest.mark.parametrize(
    ("told", "part"),
    [
        *((term, "other") for term in ("ABDOMENPELVIS", "HEADNECK", "LSSPINE", "SSPINE", "CTSPINE", "PANCREAS",
            "BLADDER", "STOMACH", "ARM", "FACE", "MAXILLA", "CERVICALSPINE", "LUMBARSPINE", "THORACICSPINE", "TLSPINE",
            "LOWEREXTREMITY")),
        *((term, "chest") for term in ("CHEST", "NECKCHEST", "CHESTABDOMEN", "NECKCHESTABDPELV", "CHESTABDPELVIS", "THORAX")),
        ("", "unknown"), ("XYZZY", "strange"), ("PORT", "strange"),
    ],
)  # fmt: skip
def test_defined_terms_run_together_and_an_unknown_one_is_noted(told, part):
    ds = Dataset()
    ds.BodyPartExamined = told
    assert body_part_of(ds) == part
    ds.SeriesDescription = "CT Chest"
    assert body_part_of(ds) == ("unsure" if part == "other" else "chest")


@pytest.mark.parametrize("said", ["Face", "Face debout", "Pulm face", "C-ARM", "face lit"])
def test_a_frontal_view_in_french_is_no_face_and_a_fluoroscope_no_arm(said):
    ds = Dataset()
    ds.SeriesDescription = said
    assert body_part_of(ds) in ("unknown", "chest")
