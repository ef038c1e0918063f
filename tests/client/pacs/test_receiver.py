"""Images that arrive: who may send them, how much, and what the sender is told."""

import contextlib
import logging
import socket

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE

from client.pacs import receiver
from client.pacs.receiver import CANNOT, NOT_AUTHORISED, SUCCESS, Receiver, refuse
from tests.helpers.deployment import free_port
from tests.helpers.dicom import image

logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)


def a_film(uid, padding=0):
    ds = image(np.zeros((64, 64), np.uint16), SOPInstanceUID=uid, StudyInstanceUID="1.2")
    if padding:
        ds.add_new(0x00091001, "OB", b"\0" * padding)
    return ds


def sent(port, ds, title="PACS", called="US"):
    """The status that the receiver gives, or None: it took no call, or closed the connection."""
    ae = AE(title)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 10
    ae.add_requested_context(ds.SOPClassUID, ExplicitVRLittleEndian)
    association = ae.associate("127.0.0.1", port, ae_title=called)
    if not association.is_established:
        return None
    try:
        status = association.send_c_store(ds)
        return status.Status if isinstance(status, Dataset) and "Status" in status else None
    finally:
        with contextlib.suppress(Exception):
            association.release()


@pytest.fixture
def arrived():
    return {}


@pytest.fixture
def port():
    return free_port()


@pytest.fixture
def listening(arrived, port):
    def keep(study, uid, file):
        arrived[uid] = (study, len(file))

    with Receiver("127.0.0.1", port, "US", ("PACS", "127.0.0.1"), keep) as one:
        yield one


def test_an_image_is_handed_on_with_its_study(listening, arrived, port):
    ds = a_film("1.3.1")
    assert sent(port, ds) == SUCCESS
    assert arrived["1.3.1"][0] == ds.StudyInstanceUID


def test_what_is_waited_for_goes_to_who_waits_and_all_else_to_whom_it_always_goes(listening, arrived, port):
    """A PACS may announce a study while another is moved: neither is lost, or taken for the other."""
    moved, other = {}, a_film("1.3.2")
    other.StudyInstanceUID = "1.4"
    with listening.giving_to("1.2", lambda study, uid, file: moved.update({uid: study})):
        assert sent(port, a_film("1.3.1")) == sent(port, other) == SUCCESS
    assert moved == {"1.3.1": "1.2"}
    assert set(arrived) == {"1.3.2"}
    assert sent(port, a_film("1.3.3")) == SUCCESS
    assert set(arrived) == {"1.3.2", "1.3.3"}


@pytest.mark.parametrize("titles", [("OTHER", "US"), ("PACS", "THEM")])
def test_other_titles_are_not_answered(listening, arrived, port, titles):
    assert sent(port, a_film("1.3.1"), *titles) is None
    assert arrived == {}


def test_a_right_title_from_another_address_is_refused(arrived, port):
    def keep(study, uid, file):
        arrived[uid] = study

    with Receiver("127.0.0.1", port, "US", ("PACS", "192.0.2.1"), keep):
        assert sent(port, a_film("1.3.1")) == NOT_AUTHORISED
    assert arrived == {}


def test_what_cannot_be_kept_stays_with_the_sender(port):
    with Receiver("127.0.0.1", port, "US", ("PACS", None), refuse):
        assert sent(port, a_film("1.3.1")) == CANNOT


@pytest.mark.slow
def test_a_huge_image_is_cut_off_while_it_arrives_and_another_is_taken(listening, arrived, port, monkeypatch):
    monkeypatch.setattr(receiver, "MAX_IMAGE_BYTES", 2**21)
    assert sent(port, a_film("1.3.1", padding=2**26)) is None
    assert sent(port, a_film("1.3.2")) == SUCCESS
    assert set(arrived) == {"1.3.2"}


def test_many_images_on_one_association_may_be_more_than_one(listening, arrived, port, monkeypatch):
    """The bound is for one image, not for all that a PACS ever sends."""
    monkeypatch.setattr(receiver, "MAX_IMAGE_BYTES", 2**18)
    ae = AE("PACS")
    films = [a_film(f"1.3.{k}", padding=2**17) for k in range(6)]
    ae.add_requested_context(films[0].SOPClassUID, ExplicitVRLittleEndian)
    association = ae.associate("127.0.0.1", port, ae_title="US")
    assert [association.send_c_store(ds).Status for ds in films] == [SUCCESS] * 6
    association.release()
    assert len(arrived) == 6


def test_addresses_of_nobody_are_none():
    assert receiver.addresses_of(None) == frozenset()
    assert receiver.addresses_of("no such host") == frozenset()
    assert "127.0.0.1" in receiver.addresses_of(socket.gethostbyname("localhost"))
