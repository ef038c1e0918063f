"""hospital.yaml: what is wrong is named by its key, and a cohort is known by its contract alone."""

import pytest

from client.settings import Hospital, Pacs, SiteFolder, contract_id
from common.config import validate
from common.errors import ConfigError
from common.plan import Input
from tests.helpers.cohorts import make_cohort
from tests.helpers.plans import small_plan


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({"server": "fed.example.org"}, "expected HOST:PORT"),
        ({"server": ":443"}, "expected HOST:PORT"),
        ({"server": "x:0"}, "expected HOST:PORT"),
        ({"server": "x:65536"}, "expected HOST:PORT"),
        ({"server": "x:44²"}, "expected HOST:PORT"),
        ({"server": "x:1", "proxy": "proxy:3128"}, "expected http://HOST:PORT"),
        ({"server": "x:1", "proxy": "http://proxy:port"}, "expected http://HOST:PORT"),
        ({"server": "x:1", "proxy": "http://"}, "expected http://HOST:PORT"),
        ({"server": "x:1", "threads": 0}, "threads"),
        ({"server": "x:1", "devise": "cpu"}, "devise: unknown key"),
        ({"server": "x:1", "data": {"pacs": {"retrieve": "dicomweb", "url": "pacs"}}}, r"expected http\(s\)"),
        (
            {"server": "x:1", "data": {"pacs": {"retrieve": "move", "host": "pacs"}}},
            "expected host and title",
        ),
    ],
)
def test_what_is_wrong_is_named(tree, said):
    with pytest.raises(ConfigError, match=said):
        validate(tree, Hospital, "hospital.yaml")


@pytest.mark.parametrize(
    "tree",
    [
        {"server": "x:1", "proxy": "socks5://joe:hunter2@proxy:1080"},
        {"server": "x:1", "proxy": "http://joe:hunter2@proxy:port"},
        {"server": "x:1", "data": {"pacs": {"url": "ftp://joe:hunter2@pacs/dicom-web"}}},
    ],
)
def test_no_password_is_quoted(tree):
    with pytest.raises(ConfigError, match="://p") as e:
        validate(tree, Hospital, "hospital.yaml")
    assert "hunter2" not in str(e.value)
    assert Pacs(url="https://joe:hunter2@pacs/dicom-web").where == "https://pacs/dicom-web"


def test_an_address_may_be_a_name_or_of_either_kind():
    for server in ("fed.example.org:443", "10.0.0.1:1", "[::1]:65535"):
        assert validate({"server": server}, Hospital, "hospital.yaml").server == server
    assert Pacs(retrieve="get", host="pacs", title="PACS").own_title == "PNEUMOFED"


def test_a_folder_that_is_none_says_how_to_make_one(tmp_path):
    with pytest.raises(ConfigError, match="not a hospital's folder; make one with: pneumofed client init"):
        SiteFolder(tmp_path).settings()
    spaced = tmp_path / "St Mary"
    with pytest.raises(ConfigError, match=f"pneumofed client init '{spaced}' --server"):
        SiteFolder(spaced).settings()
    (tmp_path / "hospital.yaml").write_text("server: x:1\n")
    assert SiteFolder(tmp_path).settings().device == "auto"


def test_plans_of_one_contract_share_a_cohort_and_others_do_not(tmp_path):
    site = SiteFolder(tmp_path)
    plan = small_plan()
    assert site.cohort(plan) == site.cohort(small_plan(rounds=7, seed=99))
    others = [small_plan(input=Input(size=32)), small_plan(findings=("effusion",)), plan]
    assert len({site.cohort(p) for p in others}) == 3
    assert len(contract_id(plan.input, plan.findings)) == 12
    assert site.cohort_identity(plan) == ""
    make_cohort(site.cohort(plan), 6)
    before = site.cohort_identity(plan)
    make_cohort(site.cohort(plan), 7)
    assert len(before) == 64
    assert before != site.cohort_identity(plan) != ""


def test_a_file_that_a_plan_starts_from_is_found_by_its_hash(tmp_path):
    folder, plan = SiteFolder(tmp_path), small_plan(model={"pretrained": "a" * 64})
    assert folder.pretrained(plan) is None
    (tmp_path / "pretrained").mkdir()
    (tmp_path / "pretrained" / "None.safetensors").write_bytes(b"")
    file = tmp_path / "pretrained" / f"{'a' * 64}.safetensors"
    file.write_bytes(b"")
    assert folder.pretrained(plan) == file
    assert folder.pretrained(small_plan(model={"pretrained": "b" * 64})) is None
