"""What a cut-off command left goes, what one is writing stays."""

import os
import time

from client.pieces import clear_pieces
from client.settings import SiteFolder


def test_a_start_clears_what_a_cut_off_ingest_left_and_not_what_one_is_writing(tmp_path):
    folder = SiteFolder(tmp_path)
    for name, age in ((".old.building", 7200), (".new.building", 10)):
        piece = folder.cohorts / name
        piece.mkdir(parents=True)
        (piece / "frames.bin").write_bytes(b"pixels")
        for path in (piece / "frames.bin", piece):
            os.utime(path, (time.time() - age,) * 2)
    clear_pieces(folder)
    assert [path.name for path in folder.cohorts.iterdir()] == [".new.building"]
    clear_pieces(folder, age_s=0.0)
    assert list(folder.cohorts.iterdir()) == []


def test_a_piece_that_is_renamed_into_place_meanwhile_ends_no_start(tmp_path, monkeypatch):
    folder = SiteFolder(tmp_path)
    piece = folder.cohorts / ".new.building"
    piece.mkdir(parents=True)

    def gone(self, pattern):
        piece.rename(folder.cohorts / "new")
        return iter([self / "frames.bin"])

    monkeypatch.setattr(type(piece), "rglob", gone)
    clear_pieces(folder, age_s=0.0)
    assert (folder.cohorts / "new").is_dir()
