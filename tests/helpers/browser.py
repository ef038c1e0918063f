"""A page of ours in a real browser, at the widths of a desk and of a telephone: what is off the screen, and what
axe finds that some people could not read or reach (WCAG 2.1 A and AA)."""

import html
import json
import subprocess
import tempfile
from pathlib import Path

import axe_core_python

from tests.helpers.tools import require_tool

WIDTHS = (1280, 390)
AXE = Path(axe_core_python.__file__).with_name("axe.min.js")
MEASURE = """
const off = [];
for (const one of doc.querySelectorAll("body *")) {
  const box = one.getBoundingClientRect(), style = view.getComputedStyle(one);
  if (!box.width || !box.height || one.closest("svg") && one.tagName !== "svg") continue;
  const name = one.tagName.toLowerCase() + ": " + one.textContent.trim().replace(/\\s+/g, " ").slice(0, 40);
  const text = style.overflowX === "visible" && /^(block|list-item)$/.test(style.display);
  if (text && one.scrollWidth > one.clientWidth + 1) off.push("runs out of " + name);
  if (view.innerWidth > 760 && one.closest("[tabindex='0']")) continue;  // at a desk who needs it can scroll it
  if (box.right > view.innerWidth + 1 || box.left < -1) off.push("outside " + name);
  if (style.overflowX !== "visible" && one.scrollWidth > one.clientWidth + 1) off.push("cut off " + name);
}
"""
HARNESS = """<!doctype html><meta charset="utf-8"><title></title><body>%s<script id="axe" type="text/plain">%s</script><script>
async function look() {
  const told = {};
  for (const frame of document.querySelectorAll("iframe")) {
    const doc = frame.contentDocument, view = frame.contentWindow;
    %s
    const script = doc.createElement("script");
    script.textContent = document.getElementById("axe").textContent;
    doc.head.append(script);
    const found = await view.axe.run(doc, {runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]});
    const axe = found.violations.flatMap(v => v.nodes.map(n => v.id + ": " + n.html.slice(0, 120)));
    told[frame.width] = {off, axe, height: doc.documentElement.scrollHeight};
  }
  const out = document.createElement("pre");
  out.id = "told"; out.textContent = JSON.stringify(told);
  document.body.append(out);
}
window.onload = look;
</script>"""


def problems(page: str) -> dict[str, list[str]]:
    """Width -> what is wrong with a page of HTML there; empty lists if nothing is."""
    frames = "".join(
        f'<iframe width="{w}" height="4000" srcdoc="{html.escape(page)}"></iframe>' for w in WIDTHS
    )
    axe = AXE.read_text(encoding="utf-8").replace("</script", "<\\/script")
    with tempfile.TemporaryDirectory() as folder:
        harness = Path(folder) / "harness.html"
        harness.write_text(HARNESS % (frames, axe, MEASURE), encoding="utf-8")
        command = [
            require_tool("chromium"), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
            "--disable-background-networking", f"--user-data-dir={folder}/profile", "--window-size=1400,4200",
            "--virtual-time-budget=20000", "--dump-dom", f"file://{harness}",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    told = json.loads(html.unescape(done.stdout.split('<pre id="told">')[1].split("</pre>")[0]))
    assert sorted(told) == sorted(map(str, WIDTHS)), "a width was not looked at"
    assert all(one["height"] > 200 for one in told.values()), "an empty page"
    return {width: [*one["off"], *one["axe"]] for width, one in told.items()}


FINE = {str(width): [] for width in WIDTHS}
