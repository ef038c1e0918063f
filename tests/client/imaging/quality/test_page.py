"""The page: every note with its pictures, foreign texts as text, nobody by name; looked at in a browser."""

import subprocess

import numpy as np
import pytest

from client.imaging.cohort import Cohort, build_cohort
from client.imaging.frames import Frame, ImageFile
from client.imaging.outcome import Reason, Tally
from client.imaging.quality import describe, render_page
from client.imaging.sequence import Collection, Sequence
from tests.helpers.browser import FINE, problems
from tests.helpers.cohorts import make_cohort
from tests.helpers.plans import small_plan
from tests.helpers.tools import require_tool

PLAN = small_plan()


def write(path, value):
    import cv2

    cv2.imwrite(str(path), np.full((16, 16), value, np.uint8))
    return ImageFile(path)


@pytest.fixture
def cohort(tmp_path):
    """Five patients of two images; the first image of two of them is noted, by its path."""
    tally = Tally()
    sequences = []
    for p in range(5):
        images = [write(tmp_path / f"SECRET{p}-{t}.png", 60 + 20 * p + 10 * t) for t in range(2)]
        frames = tuple(Frame(float(t), image) for t, image in enumerate(images))
        sequences.append(Sequence(f"SECRET{p}", frames, np.array([p % 2], np.float32), "Maker <x> $1"))
    for p in (1, 3):
        tally.add_files(Reason.BURNT_IN, [tmp_path / f"SECRET{p}-0.png"])
    tally.add_files(Reason.VIEW_UNKNOWN, [None])  # of a file that has no path
    tally.add(Reason.BROKEN, 2)
    build_cohort(tmp_path / "c", Collection(sequences, tally), PLAN.input, PLAN.findings, b"key", "stamp")
    return Cohort.open(tmp_path / "c")


def test_notes_stay_with_their_images(cohort):
    noted = [(i, t) for i in range(len(cohort)) for t, notes in enumerate(cohort.notes(i)) if notes]
    assert len(noted) == 2
    assert all(t == 0 and cohort.notes(i)[t] == ["burnt_in"] for i, t in noted)
    assert {int(cohort.frames(i)[t].mean()) for i, t in noted} == {80, 120}


def test_a_sheet_shows_the_noted_images_and_no_others(cohort):
    page = render_page(describe(cohort, PLAN), cohort, "small")
    start = page.index("<h3>text may be drawn into the image")
    sheet = page[start : page.index("</section>", start)]
    assert sheet.count("<figure>") == 2
    assert sheet.count("pneumonia: yes") == 4  # in the caption and in the picture's text
    assert "<h3>view" not in page  # nobody knows of which image
    assert "SECRET" not in page


def test_a_cohort_without_notes_of_images_is_shown_too(cohort, tmp_path):
    """As one of before."""
    from pyarrow import feather

    frames = feather.read_table(tmp_path / "c" / "frames.arrow")
    feather.write_feather(
        frames.drop_columns(["notes"]), tmp_path / "c" / "frames.arrow", compression="uncompressed"
    )
    older = Cohort.open(tmp_path / "c")
    assert older.notes(0) == [[], []]
    assert "<h3>text" not in render_page(describe(older, PLAN), older, "small")


@pytest.mark.slow
def test_the_verdict_stands_first_and_foreign_texts_are_texts(cohort, tmp_path):
    page = render_page(describe(cohort, PLAN), cohort, "small")
    assert page.index("Would you train on this?") < page.index("<section>")
    assert "Maker &lt;x&gt; $1" in page
    assert "<x>" not in page
    (tmp_path / "page.html").write_text(page)
    shot = tmp_path / "shot.png"
    subprocess.run(
        [require_tool("chromium"), "--headless", "--no-sandbox", "--disable-gpu", "--window-size=390,1600", f"--screenshot={shot}",
         f"file://{tmp_path / 'page.html'}"], check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    assert shot.stat().st_size > 10_000


@pytest.mark.slow
def test_a_finding_of_one_long_word_stays_on_a_telephone(tmp_path):
    long = "a_very_long_finding_name_that_somebody_gave_it_in_one_word"
    plan = small_plan(name=long, findings=(long,))
    cohort = Cohort.open(make_cohort(tmp_path / "long", 12, 0, plan))
    assert problems(render_page(describe(cohort, plan), cohort, plan.name)) == FINE
