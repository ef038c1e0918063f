from pydicom import Dataset

from client.imaging.facts.text import items, text, values, words


def test_words_are_plain_capitals():
    assert words("Thorax p.a. | Übersicht", "A-P") == ["THORAX", "PA", "UBERSICHT", "AP"]
    assert words("") == []


def test_an_attribute_that_is_missing_or_odd_is_empty():
    ds = Dataset()
    assert (text(ds, "PatientID"), values(ds, "ImageType"), items(ds, "ViewCodeSequence")) == ("", [], [])
    ds.PatientID, ds.ImageType = " P1 ", "original"
    assert (text(ds, "PatientID"), values(ds, "ImageType")) == ("P1", ["ORIGINAL"])
    assert items(ds, "PatientID") == []
