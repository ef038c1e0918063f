from io import BytesIO

import pytest
from pydicom import Dataset, dcmread

from client.imaging.facts.text import items, text, values, words
from tests.helpers.dicom import RAMP, image


def test_words_are_plain_capitals():
    assert words("Thorax p.a. | Übersicht", "A-P") == ["THORAX", "PA", "UBERSICHT", "AP"]
    assert words("") == []


def test_an_attribute_that_is_missing_or_odd_is_empty():
    ds = Dataset()
    assert (text(ds, "PatientID"), values(ds, "ImageType"), items(ds, "ViewCodeSequence")) == ("", [], [])
    ds.PatientID, ds.ImageType = " P1 ", "original"
    assert (text(ds, "PatientID"), values(ds, "ImageType")) == ("P1", ["ORIGINAL"])
    assert items(ds, "PatientID") == []


def read_back(value, said):
    """A Patient ID of these bytes, in a file that says that they are in these sets."""
    ds = image(RAMP, PatientID="#" * len(value))
    if said:
        ds.SpecificCharacterSet = said
    ds.save_as(file := BytesIO(), enforce_file_format=True)
    return text(dcmread(BytesIO(file.getvalue().replace(b"#" * len(value), value))), "PatientID")


@pytest.mark.parametrize("said", [None, "ISO_IR 192", "nobody's", "ISO_IR 100"])
@pytest.mark.parametrize("written", ["latin-1", "utf-8"])
def test_letters_in_another_set_than_is_said_are_nobody_else_s(said, written):
    names = ["ÜX12", "ÖX12"]
    told = [read_back(name.encode(written), said) for name in names]
    assert told == names or (said, written) == ("ISO_IR 100", "utf-8")  # which is right by what it says
    assert len(set(told)) == 2


def test_letters_of_japan_are_known_by_their_escapes_whatever_is_said():
    kanji = b"\x1b$B;3ED\x1b(B"
    assert [read_back(kanji, said) for said in (None, ["", "ISO 2022 IR 87"], "ISO_IR 192")] == ["山田"] * 3


def test_several_values_are_told_as_the_file_parts_them():
    assert read_back(b"A\\B ", None) == "A\\B"
