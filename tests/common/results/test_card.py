"""card.json: read back as it was written, the older ones too, and of one kind of site or the other."""

import json

import pytest

from common.errors import RunError
from common.results.card import FILE, DeployedSite, OnValidation, read_card, write_card
from server.export import export_run
from tests.helpers.runs import deployed_run


@pytest.fixture
def folder(tmp_path):
    return export_run(deployed_run(tmp_path / "run"), tmp_path / "model", None)


def test_a_card_comes_back_whole(folder, tmp_path):
    card = read_card(folder)
    (tmp_path / "again").mkdir()
    write_card(tmp_path / "again", card)
    assert read_card(tmp_path / "again") == card
    assert isinstance(card.metrics, OnValidation)
    assert all(isinstance(site, DeployedSite) for site in card.sites.values())
    assert card.sites["st-john"].patients is None  # withheld, not 0


def test_a_card_of_before_wrote_whole_numbers_as_80_0(folder):
    tree = json.loads((folder / FILE).read_text())
    tree["sites"]["st-mary"]["patients"] = 80.0
    (folder / FILE).write_text(json.dumps(tree))
    assert read_card(folder).sites["st-mary"].patients == 80
    tree["sites"]["st-mary"]["patients"] = 80.5
    (folder / FILE).write_text(json.dumps(tree))
    with pytest.raises(RunError, match="export the run again"):
        read_card(folder)


def test_a_card_knows_all_its_keys(folder):
    tree = json.loads((folder / FILE).read_text())
    (folder / FILE).write_text(json.dumps({**tree, "approved_by": "nobody"}))
    with pytest.raises(RunError, match=r"approved_by: .*damaged, or of another version"):
        read_card(folder)
