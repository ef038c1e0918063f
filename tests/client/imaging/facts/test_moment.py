"""When an image was taken: each witness, what it lacks, and what others say."""

from datetime import date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset

from client.imaging.facts.moment import acquisition_moment, parse_clock, parse_date, parse_offset
from tests.helpers.dicom import dataset


def local(**tags):
    return str(acquisition_moment(dataset(**tags)).local)


STUDY = {"StudyDate": "20240101", "StudyTime": "101500"}


@pytest.mark.parametrize(
    ("tags", "when"),
    [
        (STUDY, "2024-01-01 10:15:00"),
        ({**STUDY, "ContentDate": "20240102", "ContentTime": "0405"}, "2024-01-02 04:05:00"),
        ({**STUDY, "AcquisitionDateTime": "20240103040506.25+0100"}, "2024-01-03 04:05:06.250000"),
        ({"StudyDate": "2024.01.01", "StudyTime": "10:15:01"}, "2024-01-01 10:15:01"),
        # a time of day here, its date there
        ({**STUDY, "AcquisitionTime": "110000"}, "2024-01-01 11:00:00"),
        ({**STUDY, "AcquisitionDate": "", "AcquisitionTime": "080000"}, "2024-01-01 08:00:00"),
        # past midnight
        (
            {"AcquisitionTime": "001000", "StudyDate": "20240131", "StudyTime": "235000"},
            "2024-02-01 00:10:00",
        ),
        # a date here, its time of day there; but not another day's
        (
            {"AcquisitionDate": "20240101", "SeriesDate": "20240101", "SeriesTime": "180000"},
            "2024-01-01 18:00:00",
        ),
        (
            {"AcquisitionDate": "20240101", "SeriesDate": "20240102", "SeriesTime": "180000"},
            "2024-01-01 00:00:00",
        ),
        ({"AcquisitionDateTime": "20240105", "AcquisitionTime": "120000"}, "2024-01-05 12:00:00"),
        # what is none
        ({**STUDY, "AcquisitionDateTime": "202411"}, "2024-01-01 10:15:00"),
        ({**STUDY, "AcquisitionDate": "2024.1.15"}, "2024-01-01 10:15:00"),
        ({**STUDY, "AcquisitionDate": "19000101", "AcquisitionTime": ""}, "2024-01-01 10:15:00"),
        ({**STUDY, "AcquisitionDateTime": "202401"}, "2024-01-01 10:15:00"),
        ({**STUDY, "AcquisitionDate": "20240101", "AcquisitionTime": "256199"}, "2024-01-01 10:15:00"),
    ],
)
def test_the_first_witness_counts_and_the_next_fills_its_gaps(tags, when):
    assert local(**tags) == when


def test_without_a_date_there_is_no_moment():
    assert acquisition_moment(Dataset()) is None
    assert acquisition_moment(dataset(AcquisitionTime="101500")) is None


@pytest.mark.parametrize(
    ("tags", "offset"),
    [
        ({"AcquisitionDateTime": "20240101120000+0900"}, 540),
        ({"AcquisitionDateTime": "20240101120000-0330", "TimezoneOffsetFromUTC": "+0100"}, -210),
        ({**STUDY, "TimezoneOffsetFromUTC": "-0500"}, -300),
        ({"AcquisitionDateTime": "20240101120000", "TimezoneOffsetFromUTC": "+0530"}, 330),
        ({**STUDY, "TimezoneOffsetFromUTC": "+9900"}, None),
        (STUDY, None),
    ],
)
def test_an_offset_is_told_beside_or_in_the_time(tags, offset):
    assert acquisition_moment(dataset(**tags)).offset == offset


def test_what_is_doubtful_is_said():
    assert not acquisition_moment(dataset(StudyDate="20240101")).timed
    assert acquisition_moment(dataset(**STUDY)).timed
    assert not acquisition_moment(dataset(**STUDY)).exact
    assert acquisition_moment(dataset(**STUDY, AcquisitionTime="101501")).exact
    assert acquisition_moment(dataset(**STUDY, AcquisitionDate="20240103")).agreed
    assert not acquisition_moment(dataset(**STUDY, AcquisitionDate="20230101")).agreed


@given(st.datetimes(datetime(1901, 1, 1), datetime(2200, 1, 1)))
def test_what_the_standard_writes_is_read_back(moment):
    assert parse_date(moment.strftime("%Y%m%d")) == moment.date()
    assert parse_clock(moment.strftime("%H%M%S.%f")) == moment.time()


@given(st.text(max_size=30))
def test_rubbish_is_nothing_or_a_moment(text):
    acquisition_moment(dataset(AcquisitionDateTime=text, StudyTime=text, TimezoneOffsetFromUTC=text))
    assert parse_offset(text) is None or abs(parse_offset(text)) <= 840


@pytest.mark.parametrize(
    "value", ["202411", "2024115", "2024", "2024.1.15", "202401 5", "2024010５", "20240230"]
)
def test_a_date_has_eight_digits(value):
    assert parse_date(value) is None
    assert parse_date(" 2024.01.15 ") == parse_date("20240115 ") == date(2024, 1, 15)


@pytest.mark.parametrize("value", ["1:2:30", "10:1:12", "1:02", "10:11:1", ":101112"])
def test_a_time_of_the_old_kind_has_two_digits_a_field(value):
    assert parse_clock(value) is None


@pytest.mark.parametrize(
    ("clock", "exact"),
    [("1011", False), ("10", False), ("101112", True), ("101112.5", True), ("10:11:12", True)],
)
def test_a_minute_is_no_moment_that_two_exposures_cannot_share(clock, exact):
    moment = acquisition_moment(dataset(AcquisitionDate="20240101", AcquisitionTime=clock))
    assert moment.exact is exact
    assert acquisition_moment(dataset(AcquisitionDateTime=f"20240101{clock.replace(':', '')}")).exact is exact


def test_midnight_to_the_second_is_no_time_where_another_is_told():
    day = {"StudyDate": "20240101", "StudyTime": "200000"}
    assert local(**day, AcquisitionDate="20240101", AcquisitionTime="000000") == "2024-01-01 20:00:00"
    assert local(**day, AcquisitionDate="20240102", AcquisitionTime="000000") == "2024-01-02 00:00:00"
    moment = acquisition_moment(dataset(AcquisitionDate="20240101", AcquisitionTime="000000"))
    assert (str(moment.local), moment.exact) == ("2024-01-01 00:00:00", True)
