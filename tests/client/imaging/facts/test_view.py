"""From which side: spellings as departments have them, codes, orientation."""

import pytest
from pydicom import Dataset, Sequence

from client.imaging.facts.view import by_orientation, by_words, view_of
from tests.helpers.dicom import dataset


@pytest.mark.parametrize(
    ("said", "view"),
    [
        *((word, "frontal") for word in ("PA", "AP", "p.a.", "A-P", "PA ERECT", "AP SUPINE", "Chest PA", "Thorax p.a.",
            "postero-anterior", "antero-posterior", "Posteroanterior", "FRONTAL", "Poumon face")),
        *((word, "other") for word in ("LL", "RL", "LLD", "RLO", "LLAT", "RLAT", "L LAT", "LEFT LATERAL", "LAT ERECT", "LAO",
            "RPO", "lateral", "seitlich", "Thorax seitl.", "PROFIL", "AP OBLIQUE", "antero-posterior oblique", "decubitus")),
        *((word, "unknown") for word in ("", "XX", "plateau", "ERECT", "PA/LAT", "PA and lateral", "PORTABLE")),
    ],
)  # fmt: skip
def test_words_decide_where_they_speak_of_one_view(said, view):
    assert by_words(said) == view


@pytest.mark.parametrize(
    ("directions", "view"),
    [
        (["L", "F"], "frontal"), (["R", "H"], "frontal"), (["LH", "FL"], "frontal"), (["F", "L"], "frontal"),
        (["A", "F"], "other"), (["P", "F"], "other"), (["PL", "F"], "other"), (["F", "A"], "other"),
        (["L"], "unknown"), (["L", ""], "unknown"), ([], "unknown"), (["X", "Y"], "unknown"),
    ],
)  # fmt: skip
def test_a_lateral_image_runs_to_the_front(directions, view):
    assert by_orientation(directions) == view


def coded(value="", meaning=""):
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SRT", meaning
    return Sequence([item])


@pytest.mark.parametrize(
    ("tags", "view", "agreed"),
    [
        ({"ViewPosition": "PA", "SeriesDescription": "Chest lat"}, "frontal", False),
        ({"ViewPosition": "", "ViewCodeSequence": coded("R-10236", "left lateral")}, "other", True),
        ({"ViewCodeSequence": coded("R-10206")}, "frontal", True),
        ({"ViewCodeSequence": coded("399173006")}, "other", True),
        ({"ViewPosition": "ERECT", "PatientOrientation": ["A", "F"]}, "other", True),
        ({"ViewPosition": "PA", "PatientOrientation": ["A", "F"]}, "frontal", False),
        ({"PatientOrientation": "", "ProtocolName": "Thorax lat"}, "other", True),
        ({"SeriesDescription": "PA/LAT"}, "unknown", True),
        ({}, "unknown", True),
    ],
)
def test_the_first_witness_that_decides_counts(tags, view, agreed):
    said = view_of(dataset(**tags))
    assert (said.name, said.agreed) == (view, agreed)
