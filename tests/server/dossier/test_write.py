"""What a review board gets: what is known, and every blank marked and counted."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import RunError
from server.dossier.facts import facts_of, read_run
from server.dossier.write import BLANK, _plain, fill, write_dossier
from tests.helpers.browser import FINE, problems
from tests.helpers.command import refused
from tests.helpers.runs import deployed_run


@pytest.fixture
def run(tmp_path):
    return deployed_run(tmp_path / "trial")


def test_every_point_is_answered_or_marked_and_both_files_say_the_same(run, tmp_path):
    parts = write_dossier(run, tmp_path / "out")
    text, page = ((tmp_path / "out" / name).read_text() for name in ("dossier.md", "dossier.html"))
    for part in parts:
        assert all(answer.known or answer.blank for answer in part.answers), part.checklist.title
        assert 0 < part.n_blank < len(part.answers)
    n_blank = sum(part.n_blank for part in parts)
    assert text.count(f"[{BLANK}: ") == page.count(f"{BLANK}: ") == n_blank
    assert len(re.findall(r"^## ", text, re.MULTILINE)) == len(parts) == 5


def test_the_checklists_have_all_of_their_items(run):
    tripod, claim, *_ = fill(facts_of(read_run(run)))
    assert {re.match(r"\d+", a.item.id)[0] for a in tripod.answers} == {str(i) for i in range(1, 28)}
    assert [a.item.id for a in claim.answers] == [str(i) for i in range(1, 45)]


def test_what_the_run_does_not_tell_is_a_blank(run):
    _, claim, *_ = fill(facts_of(read_run(run)))
    performance = next(a for a in claim.answers if a.item.id == "38")
    assert "AUROC 0.900" in performance.known  # on validation patients
    assert performance.blank == "what the run does not tell"  # the confusion


@given(st.text(max_size=30))
def test_nothing_in_a_foreign_name_is_markup(name):
    written = _plain(name)
    assert re.sub(r"\\(.)", r"\1", written, flags=re.DOTALL) == name
    assert not re.search(r"[`*_\[\]<>#|]", re.sub(r"\\.", "", written, flags=re.DOTALL))


@pytest.mark.slow
def test_anybody_can_read_the_page_on_a_desk_and_on_a_telephone(run, tmp_path):
    write_dossier(run, tmp_path / "out")
    assert problems((tmp_path / "out" / "dossier.html").read_text()) == FINE


def test_nothing_that_was_filled_in_is_overwritten(here, run, tmp_path):
    done = here("server", "dossier", str(run), "--out", "out")
    assert done.returncode == 0, done.stderr
    assert "TRIPOD+AI: " in done.stdout
    refused(here("server", "dossier", str(run), "--out", "out"), "somebody may have filled it in")
    refused(here("server", "dossier", "nothing"), "holds no finished run")
    (run / "model.safetensors").unlink()
    with pytest.raises(RunError, match="holds no finished run"):
        write_dossier(run, tmp_path / "other")
