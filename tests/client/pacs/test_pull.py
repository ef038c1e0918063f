"""The pull against archives that misbehave in ways that a real one cannot be made to."""

import time
from dataclasses import replace
from io import BytesIO
from typing import ClassVar

import pytest
from pydicom import dcmread

from client.pacs import pull as pulling
from client.pacs.archive import Refused, Series, Unreachable
from client.pacs.inbox import Inbox
from client.pacs.pull import Outcome, Pull, Wanted
from common.errors import LinkError
from tests.helpers import dicom

CR = ("CR",)


class Shelf:
    """Patients with studies of images; `trouble` is raised from the calls whose numbers it names."""

    def __init__(self, patients, trouble=()):
        self.patients, self.trouble = patients, dict(trouble)
        self.calls, self.sent = 0, []

    def _called(self):
        self.calls += 1
        if error := self.trouble.get(self.calls, self.trouble.get("always")):
            raise error

    def studies(self, key, value):
        self._called()
        for patient, studies in self.patients.items():
            for study in studies:
                if (
                    value
                    in {"patient": (patient, "*"), "study": (study,), "accession": (f"acc-{study}",)}[key]
                ):
                    yield study, patient

    def series(self, study, modalities):
        self._called()
        images = next(s[study] for s in self.patients.values() if study in s)
        return [Series(study, f"{study}.series", frozenset(images))] if modalities == CR else []

    def fetch(self, series, missing, store):
        self._called()
        for image in sorted(missing):
            self.sent.append(image)
            store(image, b"file of " + image.encode())


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(pulling, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(pulling, "LONGEST_WAIT_S", 0.02)
    monkeypatch.setattr(pulling, "LATER_S", 0.0)


def run(archive, folder, key="patient", values=("P1", "P2"), modalities=CR, history=False, **more):
    work = Pull(archive, Inbox(folder), 10_000.0, **{"patience_s": 0.1, **more})
    list(work.run(Wanted(key, values, modalities, history)))
    return work.outcomes


TWO = {"P1": {"s1": {"i1", "i2"}, "s2": {"i3"}}, "P2": {"s3": {"i4"}}}


def test_what_is_there_is_not_fetched_again_and_what_is_missing_is(tmp_path):
    assert run(Shelf(TWO), tmp_path) == {Outcome.WHOLE: 3}
    again = Shelf(TWO)
    assert run(again, tmp_path) == {Outcome.ALREADY: 3}
    assert again.sent == []
    grown = Shelf({"P1": {"s1": {"i1", "i2", "i9"}}})
    assert run(grown, tmp_path, values=["P1"]) == {Outcome.WHOLE: 1}
    assert grown.sent == ["i9"]
    assert len(list(tmp_path.glob("[!.]*/*.dcm"))) == 5
    assert not list(tmp_path.glob(".*"))


def test_a_study_without_the_modality_is_said_to_be_empty(tmp_path):
    assert run(Shelf(TWO), tmp_path, modalities=("CT",)) == {Outcome.EMPTY: 3}
    assert run(Shelf({"P1": {"s1": set()}}), tmp_path, values=["P1"]) == {Outcome.EMPTY: 1}


def test_a_short_absence_is_waited_for_and_a_long_one_ends_the_pull(tmp_path):
    away = dict.fromkeys((1, 2, 5), Unreachable("gone"))
    assert run(Shelf(TWO, away), tmp_path / "a") == {Outcome.WHOLE: 3}
    with pytest.raises(LinkError, match=r"has not answered for .* Pull again when it is back"):
        run(Shelf(TWO, {"always": Unreachable("gone")}), tmp_path / "b")


class Refusing(Shelf):
    """Refuses the first calls about some studies and to some questions."""

    def __init__(self, patients, refusals):
        super().__init__(patients)
        self.refusals = dict(refusals)

    def _called_for(self, what):
        if self.refusals.get(what, 0) > 0:
            self.refusals[what] -= 1
            raise Refused("busy")

    def studies(self, key, value):
        self._called_for((key, value))
        yield from super().studies(key, value)

    def series(self, study, modalities):
        self._called_for(study)
        return super().series(study, modalities)


def test_what_is_refused_for_a_while_is_asked_for_again_at_the_end(tmp_path):
    assert run(Refusing(TWO, {"s1": 1}), tmp_path / "a") == {Outcome.WHOLE: 3}
    busy = Refusing(TWO, {"s1": 3, ("patient", "P2"): 1})
    assert run(busy, tmp_path / "b") == {Outcome.WHOLE: 3}
    assert busy.sent == ["i3", "i4", "i1", "i2"]
    for_ever = {"s1": 6, ("patient", "P2"): 2}
    assert run(Refusing(TWO, for_ever), tmp_path / "c") == {Outcome.WHOLE: 1, Outcome.FAILED: 2}


def test_who_asks_again_on_their_own_is_told_at_once(tmp_path):
    busy = Refusing(TWO, {"s1": 3, ("patient", "P2"): 1})
    assert run(busy, tmp_path, asks_later=False) == {Outcome.WHOLE: 1, Outcome.FAILED: 2}


def test_a_history_that_is_refused_costs_no_labelled_study_and_comes_at_the_end(tmp_path):
    busy = Refusing(TWO, {("patient", "P1"): 1})
    assert run(busy, tmp_path / "a", "study", ["s2", "s3"], history=True) == {Outcome.WHOLE: 3}
    assert busy.sent == ["i3", "i4", "i1", "i2"]
    gone = Refusing(TWO, {("patient", "P1"): 2})
    found = run(gone, tmp_path / "b", "study", ["s2", "s3"], history=True)
    assert found == {Outcome.WHOLE: 2, Outcome.FAILED: 1}


def test_one_image_that_cannot_be_had_costs_itself_and_is_named(tmp_path, caplog):
    caplog.set_level("INFO", "pneumofed.pull")

    class Short(Shelf):
        def fetch(self, series, missing, store):
            store("i1", b"one of two")
            store("stranger", b"not announced")

    short = Short({"P1": {"s1": {"i1", "i2"}}})
    assert run(short, tmp_path, values=["P1"]) == {Outcome.PARTIAL: 1}
    assert len(list(tmp_path.rglob("*.dcm"))) == 1
    assert "missing: i2 of s1" in caplog.text
    whole = Shelf({"P1": {"s1": {"i1", "i2"}}})
    assert run(whole, tmp_path, values=["P1"]) == {Outcome.WHOLE: 1}
    assert whole.sent == ["i2"]
    assert len(list(tmp_path.glob("[!.]*/*.dcm"))) == 2


def test_a_list_shorter_than_the_pacs_says_is_not_believed(tmp_path):
    class Capped(Shelf):
        def series(self, study, modalities):
            return [replace(one, announced=250) for one in super().series(study, modalities)]

    assert run(Capped({"P1": {"s1": {"i1", "i2"}}}), tmp_path, values=["P1"]) == {Outcome.FAILED: 1}
    assert list(tmp_path.glob("[!.]*")) == []


def test_a_series_that_is_refused_costs_no_other(tmp_path):
    class Two(Shelf):
        def series(self, study, modalities):
            return [Series(study, "bad", frozenset({"i1"})), Series(study, "good", frozenset({"i2"}))]

        def fetch(self, series, missing, store):
            if series.uid == "bad":
                raise Refused("status 0xA900")
            super().fetch(series, missing, store)

    assert run(Two({"P1": {"s1": {"i1", "i2"}}}), tmp_path, values=["P1"]) == {Outcome.PARTIAL: 1}
    assert len(list(tmp_path.glob("[!.]*/*.dcm"))) == 1


def test_the_history_of_a_labelled_study_comes_with_it(tmp_path):
    assert run(Shelf(TWO), tmp_path / "a", "study", ["s2"], history=True) == {Outcome.WHOLE: 2}
    assert run(Shelf(TWO), tmp_path / "b", "accession", ["acc-s2"], history=True) == {Outcome.WHOLE: 2}
    assert run(Shelf(TWO), tmp_path / "c", "study", ["s2"], history=False) == {Outcome.WHOLE: 1}


def test_a_label_is_no_wildcard(tmp_path):
    assert run(Shelf(TWO), tmp_path, values=["*"]) == {Outcome.UNKNOWN: 1}


def test_names_on_the_disk_are_never_the_pacs_s(tmp_path):
    odd = {"P1": {"../../etc": {"../passwd", "a/b"}}}
    assert run(Shelf(odd), tmp_path / "in", values=["P1"]) == {Outcome.WHOLE: 1}
    assert all(p.resolve().is_relative_to(tmp_path / "in") for p in tmp_path.rglob("*"))
    assert len(list((tmp_path / "in").glob("[!.]*/*.dcm"))) == 2


def test_a_full_disk_ends_the_pull(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Inbox, "put", full)

    class Deaf(Shelf):
        def fetch(self, series, missing, store):
            try:
                super().fetch(series, missing, store)
            except OSError:
                raise Refused("the sender was told that it failed") from None

    with pytest.raises(OSError, match="No space left"):
        run(Deaf(TWO), tmp_path)


def test_images_come_at_a_pace(tmp_path):
    archive = Shelf({"P1": {"s1": {f"i{k}" for k in range(10)}}})
    moments = []
    fetch = archive.fetch

    def timed(series, missing, store):
        fetch(series, missing, lambda *image: (store(*image), moments.append(time.monotonic())))

    archive.fetch = timed
    list(Pull(archive, Inbox(tmp_path), 100.0).run(Wanted("patient", ["P1"], CR, history=False)))
    assert moments[-1] - moments[0] >= 9 * 0.01 * 0.99  # a pace is a lower bound, on any machine


class Distracted(Shelf):
    """Says "nothing" once about each thing, as Orthanc does now and then of a study that it is just
    filing."""

    def __init__(self, patients):
        super().__init__(patients)
        self.told = set()

    def _once(self, what):
        first = what not in self.told
        self.told.add(what)
        return first

    def studies(self, key, value):
        if not self._once((key, value)):
            yield from super().studies(key, value)

    def series(self, study, modalities):
        if self._once(study):
            return [Series(study, f"{study}.series", frozenset())]
        return super().series(study, modalities)


def test_a_list_is_believed_when_it_is_given_twice(tmp_path):
    outcomes = run(Distracted(TWO), tmp_path)
    assert (outcomes[Outcome.WHOLE], outcomes[Outcome.EMPTY]) == (3, 0)


class Faulty(Shelf):
    """Of each hundred studies one is refused, one lacks an image for ever, one has a list that is shorter
    than is said, one sends what nobody asked for, one breaks the connection once, and one is empty."""

    KINDS = ("refused", "lacking", "short", "stranger", "broken", "empty")

    def __init__(self, n):
        super().__init__({f"P{k}": {f"s{k}": {f"s{k}.a", f"s{k}.b"}} for k in range(n)})
        self.kind = {f"s{k}": self.KINDS[k % 100] for k in range(n) if k % 100 < len(self.KINDS)}
        self.once = {study for study, kind in self.kind.items() if kind == "broken"}

    def series(self, study, modalities):
        kind = self.kind.get(study)
        if kind == "refused":
            raise Refused("the archive has lost it")
        if kind == "empty":
            return []
        (one,) = super().series(study, modalities)
        return [replace(one, announced=3)] if kind == "short" else [one]

    def fetch(self, series, missing, store):
        study = series.study
        if study in self.once:
            self.once.discard(study)
            raise Unreachable("the connection broke")
        if self.kind.get(study) == "stranger":
            store("of somebody else", b"file")
        lacking = {f"{study}.b"} if self.kind.get(study) == "lacking" else set()
        super().fetch(series, frozenset(missing - lacking), store)


@pytest.mark.slow
def test_of_a_thousand_studies_with_faults_of_every_kind_all_that_can_be_had_is_here(tmp_path, caplog):
    caplog.set_level("INFO", "pneumofed.pull")
    archive = Faulty(1000)
    found = run(archive, tmp_path, values=[f"P{k}" for k in range(1000)])
    assert found == {
        Outcome.FAILED: 20,  # refused, and a list that is shorter than is said
        Outcome.PARTIAL: 10,
        Outcome.EMPTY: 10,
        Outcome.WHOLE: 960,
    }
    assert len(list(tmp_path.glob("[!.]*/*.dcm"))) == 2 * 960 + 10
    for study, kind in archive.kind.items():
        if kind in ("refused", "short", "lacking"):
            assert f"{study}" in caplog.text, kind  # which, and why, stands in the site's log
    again = Faulty(1000)
    assert run(again, tmp_path, values=[f"P{k}" for k in range(1000)])[Outcome.ALREADY] == 960
    assert len(again.sent) == 0


@pytest.mark.parametrize(
    ("key", "pattern"),
    [("patient", ""), *((key, p) for key in ("study", "accession") for p in ("*", "", "acc-?1", "s1\\s2"))],
)
def test_a_pattern_asks_for_nobody(tmp_path, key, pattern):
    """An empty key, a wildcard or a list would bring studies of people whom no label is about."""
    shelf = Shelf(TWO)
    shelf.studies = lambda *_: pytest.fail("the PACS was asked")
    assert run(shelf, tmp_path, key=key, values=[pattern]) == {Outcome.FAILED: 1}
    assert shelf.sent == []


def test_a_label_that_the_pacs_knows_nothing_of_is_counted(tmp_path, caplog):
    caplog.set_level("INFO", "pneumofed.pull")
    found = run(Shelf(TWO), tmp_path, values=["P1", "P3", "P4"])
    assert found == {Outcome.WHOLE: 2, Outcome.UNKNOWN: 2}
    assert "unknown: the PACS has no study of the patient P3" in caplog.text


def test_another_patient_s_study_with_the_same_number_is_not_fetched(tmp_path):
    class Numbered(Shelf):
        def studies(self, key, value):
            if key == "accession":
                yield from (("s1", "P1"), ("s9", "STRANGER"))
            else:
                yield from super().studies(key, value)

    three = {**TWO, "STRANGER": {"s9": {"i9"}, "s10": {"i10"}}}
    for owners, sent in (({"7": {"P1"}}, {"i1", "i2", "i3"}), ({}, {"i1", "i2", "i3", "i9", "i10"})):
        archive = Numbered(three)
        work = Pull(archive, Inbox(tmp_path / str(len(sent))), 10_000.0)
        list(work.run(Wanted("accession", ["7"], CR, history=True, owners=owners)))
        assert set(archive.sent) == sent


def test_an_archive_that_answers_otherwise_each_time_is_not_believed(tmp_path):
    class Two(Shelf):
        """Two machines behind one name, of which one lacks a study."""

        def studies(self, key, value):
            self.calls += 1
            yield from (("s1", "P1"), ("s2", "P1"))[: 1 + self.calls % 2]

    assert run(Two(TWO), tmp_path, values=["P1"]) == {Outcome.FAILED: 1}


def test_a_history_that_is_refused_is_one_question_however_many_studies_there_are(tmp_path):
    three = {"P1": {"s1": {"i1"}, "s2": {"i2"}, "s3": {"i3"}}}
    gone = Refusing(three, {("patient", "P1"): 99})
    found = run(gone, tmp_path, "study", ["s1", "s2", "s3"], history=True)
    assert found == {Outcome.WHOLE: 3, Outcome.FAILED: 1}


def test_a_mirror_keeps_what_is_listed_alone(tmp_path):
    run(Shelf(TWO), tmp_path)
    less = {"P1": {"s1": {"i2"}}}
    run(Shelf(less), tmp_path, values=["P1"])
    assert len(list(tmp_path.rglob("*.dcm"))) == 4
    run(Shelf(less), tmp_path, values=["P1"], mirrors=True)
    assert len(list(tmp_path.rglob("*.dcm"))) == 3
    Inbox(tmp_path).keep_studies({"s1"})
    assert len(list(tmp_path.rglob("*.dcm"))) == 1


class Filed(Shelf):
    """Sends DICOM files, which name the patient that `files_of` says, or else the PACS's own."""

    files_of: ClassVar = {}

    def fetch(self, series, missing, store):
        self._called()
        owner = next(patient for patient, studies in self.patients.items() if series.study in studies)
        for uid in sorted(missing):
            self.sent.append(uid)
            ds = dicom.image(dicom.RAMP, PatientID=self.files_of.get(series.study, owner), SOPInstanceUID=uid)
            ds.StudyInstanceUID, ds.AccessionNumber = series.study, f"acc-{series.study}"
            ds.save_as(file := BytesIO(), enforce_file_format=True)
            store(uid, file.getvalue())


def held(folder):
    found = map(dcmread, folder.rglob("*.dcm"))
    return sorted((str(ds.PatientID), str(ds.StudyInstanceUID), str(ds.SOPInstanceUID)) for ds in found)


FOUR = {"P1": {"1.1": {"1.1.1"}, "1.2": {"1.2.1", "1.2.2"}}, "P2": {"2.1": {"2.1.1"}}}


def test_a_study_that_was_given_to_another_patient_is_fetched_anew(tmp_path):
    run(Filed(FOUR), tmp_path)
    moved = Filed({"P1": {"1.1": {"1.1.1"}}, "P2": {"1.2": {"1.2.1", "1.2.2"}, "2.1": {"2.1.1"}}})
    assert run(moved, tmp_path) == {Outcome.ALREADY: 2, Outcome.WHOLE: 1}
    assert moved.sent == ["1.2.1", "1.2.2"]
    assert {patient for patient, study, _ in held(tmp_path) if study == "1.2"} == {"P2"}
    assert len(held(tmp_path)) == 4


@pytest.mark.parametrize("before", [True, False], ids=["here", "new"])
def test_a_study_that_the_pacs_has_renamed_in_its_database_alone_is_not_kept(tmp_path, before, caplog):
    caplog.set_level("INFO", "pneumofed.pull")
    if before:
        run(Filed(FOUR), tmp_path)
    renamed = Filed({"P1": {"1.1": {"1.1.1"}}, "P2": {"1.2": {"1.2.1", "1.2.2"}, "2.1": {"2.1.1"}}})
    renamed.files_of = {"1.2": "P1"}
    assert run(renamed, tmp_path)[Outcome.MISNAMED] == 1
    assert [study for _, study, _ in held(tmp_path)] == ["1.1", "2.1"]
    assert "misnamed: 1.2" in caplog.text


def test_a_study_that_is_of_somebody_forgotten_now_goes(tmp_path):
    run(Filed(FOUR), tmp_path)
    moved = Filed({"P1": {"1.1": {"1.1.1"}}, "P2": {"1.2": {"1.2.1", "1.2.2"}, "2.1": {"2.1.1"}}})
    work = Pull(moved, Inbox(tmp_path, lambda patient: patient == "P2"), 10_000.0)
    list(work.run(Wanted("patient", ["P1", "P2"], CR, history=False)))
    assert work.outcomes == {Outcome.ALREADY: 1, Outcome.FORGOTTEN: 2}
    assert {study for _, study, _ in held(tmp_path)} == {"1.1"}


@pytest.mark.parametrize(
    ("left", "key", "values", "gone"),
    [
        ({"P1": {"1.1": {"1.1.1"}}}, "patient", ["P1"], "1.2"),
        ({"P1": {"1.1": {"1.1.1"}, "1.2": {"1.2.1"}}}, "patient", ["P1"], "1.2"),
        ({"P1": {"1.1": {"1.1.1"}, "1.2": set()}}, "study", ["1.2"], "1.2"),
        ({"P1": {"1.1": {"1.1.1"}}}, "study", ["1.2"], "1.2"),
        ({"P1": {"1.2": {"1.2.1", "1.2.2"}}}, "accession", ["acc-1.1"], "1.1"),
    ],
)
def test_what_the_pacs_has_no_more_is_named_and_stays(tmp_path, caplog, left, key, values, gone):
    run(Filed(FOUR), tmp_path)
    caplog.set_level("INFO", "pneumofed.pull")
    found = run(Filed(left), tmp_path, key, values)
    assert found[Outcome.WITHDRAWN] == 1
    lines = {record.message for record in caplog.records if record.message.startswith("withdrawn")}
    assert lines
    assert all(f"of {gone} no more" in line for line in lines)
    assert len(held(tmp_path)) == 4


def test_what_was_not_asked_for_or_not_answered_is_not_taken_for_withdrawn(tmp_path):
    run(Filed(FOUR), tmp_path)
    for path in tmp_path.rglob("*.dcm"):
        if (ds := dcmread(path)).SOPInstanceUID == "1.2.2":  # pushed beside it, for another plan
            ds.Modality = "CT"
            ds.save_as(path)
    less = {"P1": {"1.1": {"1.1.1"}, "1.2": {"1.2.1"}}}
    assert run(Filed(less), tmp_path, values=["P1"]) == {Outcome.ALREADY: 2}

    class Unsure(Filed):
        def studies(self, key, value):
            raise Refused("busy")

    assert run(Unsure({}), tmp_path, values=["P2"]) == {Outcome.FAILED: 1}
