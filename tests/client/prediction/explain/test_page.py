import json
import subprocess
from types import SimpleNamespace

import cv2
import pytest

from client.prediction.explain.page import _turning
from tests.helpers.browser import FINE, problems
from tests.helpers.tools import require_tool


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_works_in_a_browser(here, tmp_path, exported, images, width):
    """The slider moves, the pictures load, nothing is logged as an error, and nothing is wider than the
    screen."""
    chromium = require_tool("chromium")
    here("client", "explain", "--model", "model", "--input", str(images), "--out", "why", "--most", "1")
    page = tmp_path / "why/case-001/page.html"
    probe = """
    <script>
      window.errors = []; window.onerror = (m) => { window.errors.push(m); };
      window.addEventListener("load", () => {
        const slider = document.getElementById("visit"), images =
        [...document.querySelectorAll("img[data-method]")];
        const before = images.map(i => i.src);
        slider.value = 1; slider.dispatchEvent(new Event("input"));
        setTimeout(() => {
          const moved = images.every((img, k) => img.dataset.method === "occlusion" || img.src !== before[k]);
          document.title = JSON.stringify({
            loaded: images.every(i => i.complete && i.naturalWidth > 0), moved, which:
            document.getElementById("which").textContent,
            on: document.querySelectorAll("#visits tr.on").length, errors: window.errors,
            wide: document.documentElement.scrollWidth > window.innerWidth,
          });
        }, 300);
      });
    </script>"""
    probed = page.with_name("probed.html")
    probed.write_text(page.read_text().replace("<head>", "<head>" + probe, 1))
    command = [
        chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run", "--enable-logging=stderr",
        f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},1400", "--virtual-time-budget=3000",
        f"--screenshot={tmp_path / 'page.png'}", f"file://{page}",
    ]  # fmt: skip
    shot = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "CONSOLE" not in shot.stderr
    assert cv2.imread(str(tmp_path / "page.png")).std() > 10
    dump = [c for c in command if not c.startswith("--screenshot") and not c.startswith("file:")]
    done = subprocess.run(
        [*dump, "--dump-dom", f"file://{probed}"], capture_output=True, text=True, timeout=120
    )
    found = json.loads(done.stdout.split("<title>")[1].split("</title>")[0].replace("&quot;", '"'))
    assert problems(page.read_text()) == FINE
    assert found == {"loaded": True, "moved": True, "which": "1", "on": 1, "errors": [], "wide": False}


@pytest.mark.parametrize(
    ("running", "said"),
    [
        ([-1.04, -1.01, -0.96], "at image 2 (day 7): from -1.04 to -1.01; at the end it is -0.96."),
        ([0.5], "There is one image: nothing is compared over time."),
    ],
)
def test_the_turning_point_is_told_so_that_it_can_be_seen(running, said):
    """From -1.0 to -1.0 would be no turn."""
    explained = SimpleNamespace(
        when=SimpleNamespace(running=running),
        turning=1,
        unit="day",
        case=SimpleNamespace(positions=[0, 7, 9]),
    )
    assert _turning(explained).endswith(said)
