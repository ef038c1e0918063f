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
        *((word, "other") for word in ("Skull AP", "Main face", "RX MAIN DROITE", "Pie AP", "RX de pie", "Radius AP", "AP feet",
            "Neck AP", "Hand PA", "Head AP", "C-SPINE AP NECK EXTENDED", "KNEE AP HEAD UP")),
        *((word, "unsure") for word in ("AP sitting, head of bed 30", "Portable AP HEAD UP 45", "PA NECK EXTENDED",
            "MAIN XRAY ROOM", "Main X-Ray AP", "PA de pie", "PA erect 6 feet")),
        *((word, "chest") for word in ("Chest AP head up 30", "Torax PA de pie")),
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


def test_an_aside_excludes_nothing_and_hides_nothing():
    ds = Dataset()
    ds.SeriesDescription = "Portable AP HEAD UP 45"
    assert body_part_of(ds) == "unsure"
    ds.BodyPartExamined = "CHEST"
    assert body_part_of(ds) == "chest"
    ds.BodyPartExamined = "HAND"
    assert body_part_of(ds) == "other"
