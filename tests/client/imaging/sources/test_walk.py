"""Every file of a folder, or a word about it."""

import os

import pytest

from client.imaging.outcome import Reason
from client.imaging.sources import DicomFolder
from common.errors import DataError
from common.plan import Input
from tests.helpers.hospital import hospital

FINDINGS = ("pneumonia",)


def test_a_folder_that_is_a_link_counts_and_one_that_cannot_be_listed_is_refused(tmp_path):
    whole = hospital(tmp_path / "whole")
    one, *_ = sorted(whole.glob("*.dcm"))
    (tmp_path / "far").mkdir()
    os.replace(one, tmp_path / "far" / one.name)
    (whole / "linked").symlink_to(tmp_path / "far")
    (whole / "round").symlink_to(whole)  # to itself
    found = DicomFolder(whole).read(Input(), FINDINGS)
    assert sum(len(s.frames) for s in found.sequences) == 9
    (whole / "nowhere.dcm").symlink_to(tmp_path / "gone.dcm")
    os.mkfifo(whole / "pipe")
    assert DicomFolder(whole).read(Input(), FINDINGS).tally.counts[Reason.BROKEN] == 1


def test_a_folder_that_cannot_be_listed_is_refused_by_name(tmp_path, monkeypatch):
    """Root may list all: in place of one who may not."""
    whole = hospital(tmp_path / "h")
    (whole / "closed").mkdir()
    scandir = os.scandir

    def closed(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(DataError, match="closed: cannot be listed: Permission denied"):
        DicomFolder(whole).read(Input(), FINDINGS)


def test_a_disk_s_own_folders_are_passed_over(tmp_path):
    whole = hospital(tmp_path / "h")
    (whole / "lost+found").mkdir()
    (whole / "lost+found" / "#123").write_bytes(b"a piece")
    assert DicomFolder(whole).read(Input(), FINDINGS).tally.counts[Reason.NOT_DICOM] == 0
