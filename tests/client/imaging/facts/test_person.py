"""One Patient ID, two people: what differs, what may."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset

from client.imaging.facts.person import Person, are_several, person_of
from tests.helpers.dicom import dataset


@pytest.mark.parametrize(
    ("one", "other", "several"),
    [
        (Person(issuer="A", sex="M"), Person(issuer="B", sex="M"), True),
        (Person(issuer="A", sex="M"), Person(sex="M"), False),
        (Person(name="A A", born="19500101", sex="M"), Person(name="B B", born="19900101", sex="F"), True),
        (
            Person(name="DOE JANE", born="1950", sex="F"),
            Person(name="DOE SMITH JANE", born="1950", sex="F"),
            False,
        ),
        (Person(name="DOE JANE"), Person(name="JANE SMITH"), False),
        (Person(name="DOE JANE"), Person(name="ROE RICHARD"), True),
        (
            Person(name="DOE JANE", born="19500101", sex="F"),
            Person(name="DOE JANE", born="19500110", sex="F"),
            False,
        ),
        (Person(born="1950", sex="F"), Person(born="1960", sex="M"), True),
        (Person(sex="F"), Person(sex="M"), True),
        (Person(), Person(name="DOE JANE", born="1950", sex="F"), False),
    ],
)
def test_two_things_that_differ_are_two_people(one, other, several):
    assert one.differs(other) is other.differs(one) is several
    assert are_several([one, one, other]) is several


def test_a_name_is_its_words():
    ds = Dataset()
    ds.PatientName, ds.PatientSex, ds.PatientBirthDate = "Doe^Jane^^Dr.", "o", "1950.01.01"
    assert person_of(ds) == Person(name="DOE DR JANE", born="19500101")


def named(name, born="19500101"):
    return person_of(
        dataset(SpecificCharacterSet="ISO_IR 192", PatientName=name, PatientBirthDate=born, PatientSex="M")
    )


def test_names_are_compared_in_each_way_that_both_tell_them():
    yamada = named("=山田^太郎=やまだ^たろう")
    assert yamada.differs(named("=鈴木^一郎=すずき^いちろう", "19801212"))
    assert not yamada.differs(named("=山田^太郎", "19801212"))
    assert not yamada.differs(named("Yamada^Taro=山田^太郎"))
    assert not yamada.differs(named("Suzuki^Ichiro"))  # told in other ways
    assert named("Yamada^Taro").differs(named("Suzuki^Ichiro=鈴木^一郎", "19801212"))


def test_a_date_that_is_none_says_nothing():
    assert named("Doe", "1950").born == named("Doe", "19000101").born == ""


people = st.builds(Person, *(st.sampled_from(["", "A", "B"]) for _ in range(4)))


@given(people, people)
def test_nobody_differs_from_oneself_or_from_nobody(one, other):
    assert not one.differs(one)
    assert not one.differs(Person())
    assert one.differs(other) == other.differs(one)
