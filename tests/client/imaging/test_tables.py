"""Tables as people write them: what is clear is read, what is not is refused with its row."""

import re

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from client.imaging.tables import parse_day, parse_number, read_table, require_key
from common.errors import DataError

ROWS = [{"patient": "00012", "pneumonia": "1"}, {"patient": "Müller", "pneumonia": ""}]
PLAIN = "patient,pneumonia\n00012,1\nMüller,\n"


def rows(path):
    return [row for _, row in read_table(path, ["patient", "pneumonia"]).rows]


@pytest.mark.parametrize(
    "data",
    [
        PLAIN.encode(),
        PLAIN.encode("utf-8-sig"),
        PLAIN.encode("utf-16"),
        PLAIN.replace(",", ";").encode(),
        PLAIN.replace(",", "\t").encode(),
        PLAIN.replace("\n", "\r\n").encode(),
        b"sep=;\r\n" + PLAIN.replace(",", ";").encode(),
        PLAIN.replace("00012", '="00012"').encode(),
        PLAIN.replace("00012", '"=""00012"""').encode(),
        PLAIN.replace("\n", ",\n").encode(),  # a spreadsheet's empty column
        PLAIN.replace("Müller,", "\n\nMüller,NaN").encode(),
        PLAIN.replace("patient", " patient ").replace("1\n", " 1 \n").encode(),
    ],
)
def test_one_table_written_in_many_ways(tmp_path, data):
    (tmp_path / "t.csv").write_bytes(data)
    assert rows(tmp_path / "t.csv") == ROWS


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("patient,pneumonia,pneumonia\nP,1,0\n", "the column 'pneumonia' stands twice; remove or rename one"),
        ("patient,pneumonia\nP,1\nQ,1,0\n", "row 3: found 3 cells, the header has 2"),
        ("patient,pneumonia\nP,1\nQ\n", "row 3: found 1 cells, the header has 2"),
        ("patient,fever\nP,1\n", "the column 'pneumonia' is missing; found patient, fever"),
        ("patient;fever\nP;1\n", "the column 'pneumonia' is missing; found patient, fever"),
        ("", "the column 'patient' is missing; found none"),
        ('patient,pneumonia\n"P,1\n', "not readable as csv: Error"),
    ],
)
def test_what_is_ambiguous_is_refused(tmp_path, text, said):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=re.escape(said)):
        rows(tmp_path / "t.csv")


@pytest.mark.parametrize("data", ["patient,pneumonia\nMüller,1".encode("cp1252"), PLAIN.encode("utf-16-le")])
def test_another_encoding_is_refused(tmp_path, data):
    (tmp_path / "t.csv").write_bytes(data)
    with pytest.raises(DataError, match="save it as CSV in UTF-8"):
        rows(tmp_path / "t.csv")


def test_parquet_too(tmp_path):
    path = tmp_path / "t.parquet"
    parquet.write_table(pa.table({"patient": [12.0, None], "pneumonia": [True, None]}), path)
    assert rows(path) == [{"patient": "12", "pneumonia": "1"}, {"patient": "", "pneumonia": ""}]
    twice = pa.Table.from_arrays(
        [pa.array(["P"]), pa.array([1]), pa.array([0])], names=["patient", "pneumonia", "pneumonia"]
    )
    parquet.write_table(twice, path)
    with pytest.raises(DataError, match="stands twice"):
        rows(path)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1), ("-2.5", -2.5), ("3,5", 3.5), ("1,2345", 1.2345), (".5", 0.5), ("1e-3", 1e-3)],
)
def test_numbers(text, value):
    assert parse_number(text, "here") == value


@pytest.mark.parametrize("text", ["", "1,234", "1.234,5", "one", "0x10", "1 000", "inf", "nan", "1_0"])
def test_what_is_no_number(text):
    with pytest.raises(DataError, match=r"here: found .*, expected a number"):
        parse_number(text, "here")


def test_days_and_dates():
    assert parse_day("3,5", "here") == (3.5, False)
    first, second = (parse_day(text, "here") for text in ("2024-02-28", "2024-03-01 00:00:00"))
    assert second[0] - first[0] == 2
    assert first[1] is second[1] is True
    for text in ("03/04/2024", "3.4.2024", "2024-13-01", "04-03-2024", "soon"):
        with pytest.raises(DataError, match="here: found"):
            parse_day(text, "here")


def test_a_key_that_a_spreadsheet_rounded_is_refused():
    assert require_key("00012", "patient", "here") == "00012"
    for text, said in (("", "its patient is empty"), ("1.23457E+11", "rounded"), ("1,2E+11", "rounded")):
        with pytest.raises(DataError, match=said):
            require_key(text, "patient", "here")


@given(st.binary(max_size=200))
def test_rubbish_is_a_table_or_refused_in_one_line(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "rubbish.csv"
    path.write_bytes(data)
    try:
        read_table(path)
    except DataError as e:
        assert "\n" not in str(e)
        assert str(e).isprintable()
