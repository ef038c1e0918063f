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
