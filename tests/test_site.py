"""The documents as a site: built without a warning, whole, and loading nothing from elsewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    place = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "-f",
        str(ROOT / ".mkdocs.yml"),
        "--strict",
        "-d",
        str(place),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return place


@pytest.mark.slow
def test_every_document_is_a_page_and_has_its_place_in_the_menu(site):
    menu = (site / "index.html").read_text(encoding="utf-8")
    for document in (ROOT / "docs").glob("*.md"):
        page = f"{document.stem}.html"
        assert (site / page).is_file()
        assert f'href="{page}"' in menu or page == "index.html"


def test_pictures_and_links_lead_to_files(site):
    for page in site.glob("*.html"):
        for target in re.findall(r'(?:src|href)="([^"#]+)(?:#[^"]*)?"', page.read_text(encoding="utf-8")):
            if "://" not in target and not target.startswith(("mailto:", "data:", "/")):
                assert (page.parent / target).exists(), (page.name, target)


@pytest.mark.slow
def test_nothing_is_loaded_from_elsewhere(site):
    for page in site.glob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r'<(?:script|img|iframe)[^>]+src="([^"]+)"', text)
        loaded += re.findall(r'<link[^>]+rel="(?:stylesheet|preconnect|icon)"[^>]*href="([^"]+)"', text)
        assert loaded
        assert not [one for one in loaded if "//" in one], page.name
