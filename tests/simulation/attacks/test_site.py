"""`pneumofed audit-privacy` from a simulated run, and from a hospital's folder, to a page that a browser
shows."""

import json
import subprocess

import pytest

from tests.helpers.machines import audit_privacy
from tests.helpers.tools import require_tool


@pytest.mark.slow
def test_a_private_run_is_audited_and_shown(run, here, tmp_path):
    done = here(
        *audit_privacy("runs/NAME", **{"runs/NAME": "run", "hospital-a": "hospital-b"}),
        "--canaries",
        "20",
        "--json",
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["site"] == "hospital-b"
    assert found["private"]["epsilon_at_least"] <= found["epsilon_of_run"] == pytest.approx(8.0, abs=0.1)
    assert found["epsilon_in_ledger"] == pytest.approx(found["epsilon_of_run"], abs=1e-6)
    assert found["private"]["canaries"] == found["plain"]["canaries"] == 20
    assert 0.0 <= found["membership"]["auroc"]["value"] <= 1.0
    assert abs(found["inversion"]["private"]) < 0.5
    assert json.loads((run / "privacy-audit" / "audit.json").read_text()) == found
    page = (run / "privacy-audit" / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 3
    assert "It stays at the site" in page
    chromium = require_tool("chromium")
    shot = tmp_path / "shot.png"
    subprocess.run(
        [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=390,2000", f"--screenshot={shot}",
         f"file://{run / 'privacy-audit' / 'report.html'}"], check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    assert shot.stat().st_size > 10_000
