"""What makes a cohort stale."""

import os

from client.imaging.sources import DicomFolder, fingerprint
from tests.helpers.hospital import hospital

FINDINGS = ("pneumonia",)


def test_the_fingerprint_changes_with_any_file(tmp_path):
    folder = hospital(tmp_path / "h")
    before = fingerprint(DicomFolder(folder))
    assert fingerprint(DicomFolder(folder)) == before
    os.utime(folder / "0-1.dcm", ns=(1, 1))
    touched = fingerprint(DicomFolder(folder))
    (folder / "0-1.dcm").unlink()
    assert len({before, touched, fingerprint(DicomFolder(folder))}) == 3


def test_a_link_to_nothing_is_counted_when_it_is_read(tmp_path):
    folder = hospital(tmp_path / "h")
    before = fingerprint(DicomFolder(folder))
    (folder / "dead.dcm").symlink_to(tmp_path / "gone.dcm")
    assert fingerprint(DicomFolder(folder)) != before
