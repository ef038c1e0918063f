"""Every page and DICOM object that the project makes, from the phantom, looked at: `python docs/gallery.py`.

Makes docs/gallery.md and docs/gallery/, in some five minutes. It needs chromium, dcmtk (dsrdump) and
tesseract. For each object there are questions that somebody who sees it for the first time should be able to
answer; where the answer stands in the object is a pattern, and what does not match ends this with an error:
tests/test_gallery.py asks the same of small ones.
"""

import html
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pydicom
import viewer

HERE = Path(__file__).parent
WIDTHS, TALLEST, TOP, QUALITY = (1280, 390), 3600, 1390, 60
FRAME = """<!doctype html><meta charset="utf-8"><body style="margin:0">
<iframe id="f" width="{width}" height="{height}" style="border:0" srcdoc="{page}"></iframe>
<script>
  const page = () => document.getElementById("f").contentDocument.documentElement;
  onload = () => {{ document.title = page().scrollHeight; }};
</script>"""


@dataclass(frozen=True)
class Exhibit:
    """One kind of object."""

    title: str
    about: str
    questions: tuple[tuple[str, str], ...]  # and a pattern of where the answer stands


EXHIBITS = {
    "report": Exhibit(
        "The report of a run",
        "`report.html` of `pneumofed simulate`, and of `pneumofed server report` for a deployed run.",
        (
            (
                "What did each hospital gain, and how surely?",
                r"difference.*95 % of it.*(adopt|no sure difference|not measurable)",
            ),
            (
                "How many patients is that judged on?",
                r"Judged on \d+ test patients that no model was trained or tuned on",
            ),
            (
                "Where does the model call a patient positive, and how often is it wrong?",
                r"Called from a probability of 0\.\d+",
            ),
            ("May I use it on patients?", r"not a medical device"),
        ),
    ),
    "card": Exhibit(
        "The model card",
        "`card.html` of the folder that `pneumofed server export` hands over.",
        (
            ("What is it for, and what not?", r"Research use, not a medical device\..*What it is for"),
            ("How good was it, on whom?", r"How good it was\s*On [a-z ]+"),
            (
                "Were the training patients protected?",
                r"Privacy of the training patients\s*(No differential privacy|ε =)",
            ),
            ("Is it signed?", r"Not signed|Signed with the coordinator's key"),
        ),
    ),
    "evaluation": Exhibit(
        "An evaluation",
        "`evaluation.html` of `pneumofed evaluate` and `pneumofed client gain`.",
        (
            (
                "Was the model trained on these patients?",
                r"of them (are|is a) training patient|is not known here",
            ),
            ("How many have the finding?", r"\d+ of \d+ patients have it"),
            ("Which threshold, chosen by whom?", r"at the threshold [\d.]+ \([a-z' ]+"),
        ),
    ),
    "cohort": Exhibit(
        "The cohort, before anything trains on it",
        "Beside the cohort, made by `pneumofed client ingest` (here with `--model`).",
        (
            ("Would you train on this?", r"Would you train on this\? (Yes|No|Look first)"),
            ("May the page leave the hospital?", r"It stays at the site"),
            (
                "Which labels may be wrong?",
                r"Labels that the model doubts most\s*(The least likely first|None)",
            ),
        ),
    ),
    "explanation": Exhibit(
        "Why: an explanation",
        "`page.html` of `pneumofed client explain`.",
        (
            ("What does the model say, and how surely?", r"probability 0\.\d+, the model says (yes|no)"),
            (
                "Do bright places speak for the finding or against it?",
                r"Bright places show what speaks (for|against) it",
            ),
            (
                "At which visit did it change its mind?",
                r"The score moved most toward its end at image \d+|There is one image",
            ),
            ("How far is the map to be believed?", r"the map explains the method and not the model"),
        ),
    ),
    "audit": Exhibit(
        "A privacy audit",
        "`report.html` of `pneumofed audit-privacy`.",
        (
            ("What does an attacker prove?", r"guesses right.*ε at least"),
            ("Does it prove that nothing leaks?", r"a lower bound of 0 proves nothing by itself"),
        ),
    ),
}
CAPTURE = (
    ("Which finding, how likely?", r"probability 0\.\d+"),
    ("How sure is that?", r"with a like score \d+ had it|nobody judged this model"),
    ("For or against it?", r"(SUPPORTS|OPPOSES)"),
    ("May I act on it?", r"Research use, not a medical device"),
)
"""Of a heat map in the PACS: read from its pixels."""
REPORT = (
    ("Is the finding present?", r"Pneumonia.*(Present|Absent)"),
    ("What is the threshold?", r"Probability from which the finding is called present"),
)
"""Of the structured report, as dcmtk's dsrdump shows it."""
IN_THE_PACS = "Captures and the structured report of `pneumofed client explain --dicom` and `client read`."


def text_of(page: str) -> str:
    """What a page says, without what it is made of."""
    body = re.sub(r"<(style|script|svg)\b.*?</\1>", " ", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", body)))


def unanswered(questions: tuple[tuple[str, str], ...], text: str) -> list[str]:
    """The questions that a text does not answer."""
    return [question for question, answer in questions if not re.search(answer, text, re.DOTALL)]


def read_pixels(capture: Path) -> str:
    """The text in a capture's pixels, by tesseract."""
    picture = cv2.cvtColor(pydicom.dcmread(capture).pixel_array, cv2.COLOR_RGB2GRAY)
    legend = cv2.resize(255 - picture[512:], None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
    with tempfile.NamedTemporaryFile(suffix=".png") as file:
        cv2.imwrite(file.name, legend)
        done = subprocess.run(
            ["tesseract", file.name, "-", "--psm", "6"], capture_output=True, text=True, check=True
        )
    return done.stdout


def read_report(report: Path) -> str:
    """A structured report, as a viewer shows its tree."""
    done = subprocess.run(["dsrdump", "+Pf", str(report)], capture_output=True, text=True, check=True)
    return done.stdout


def shoot(page: Path, out: Path) -> list[Path]:
    """The page as WebP at each width, at most TALLEST high."""
    made = []
    for width in WIDTHS:
        height = min(TALLEST, _height(page, width))
        picture = out / f"{page.stem}-{width}.webp"
        with tempfile.TemporaryDirectory() as folder:
            shot = Path(folder) / "shot.png"
            _browse(page, width, height, folder, f"--screenshot={shot}")
            cv2.imwrite(
                str(picture), cv2.imread(str(shot))[:height, :width], [cv2.IMWRITE_WEBP_QUALITY, QUALITY]
            )
        made.append(picture)
    return made


def _height(page: Path, width: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        found = re.search(r"<title>(\d+)</title>", _browse(page, width, 1000, folder, "--dump-dom"))
    assert found, f"{page}: chromium did not show it"
    return int(found[1])


def _browse(page: Path, width: int, height: int, folder: str, how: str) -> str:
    frame = Path(folder) / "frame.html"
    text = html.escape(page.read_text(encoding="utf-8"))
    frame.write_text(FRAME.format(width=width, height=height, page=text), encoding="utf-8")
    words = [
        "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={folder}/profile",
        f"--window-size={max(width, 500)},{height}", "--virtual-time-budget=5000", how, f"file://{frame}",
    ]  # fmt: skip
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=120).stdout


def pneumofed(*words: object) -> None:
    """The command, as a person types it."""
    print("pneumofed", *words, flush=True)
    command = [sys.executable, "-m", "pneumofed.cli", *map(str, words)]
    done = subprocess.run(
        command,
        cwd=HERE.parent,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "100"},
    )
    assert done.returncode == 0, done.stderr


def make(work: Path) -> dict[str, Path]:
    """Every page, from a run of the quickstart, by the commands of the documentation."""
    run, model, site = work / "run", work / "model", work / "site"
    pneumofed("simulate", "--out", run)
    pneumofed("server", "export", run, "--out", model)
    (cohort, *_), (images, *_) = sorted((run / "cohorts").iterdir()), sorted((run / "dicom").iterdir())
    pneumofed("evaluate", model, "--on", cohort, "--out", work / "evaluation")
    pneumofed("server", "init", work / "server", "--host", "fed.example.org")
    pneumofed("client", "init", site, "--server", "fed.example.org:443", "--ca", work / "server" / "ca.crt")
    settings = (site / "hospital.yaml").read_text(encoding="utf-8")
    (site / "hospital.yaml").write_text(
        re.sub(r"^data:.*?(?=^\S)", f"data: {{dicom: {images}}}\n", settings, flags=re.DOTALL | re.MULTILINE)
    )
    pneumofed("client", "ingest", model / "plan.yaml", "--model", model, "--dir", site)
    pneumofed(
        "client",
        "explain",
        "--model",
        model,
        "--input",
        images,
        "--out",
        work / "why",
        "--dicom",
        "--most",
        12,
    )
    pneumofed("audit-privacy", run, "--canaries", 40, "--out", work / "audit")
    yes = [
        page
        for page in sorted((work / "why").glob("*/page.html"))
        if "the model says yes" in page.read_text()
    ]
    (quality,) = (site / "cohorts").glob("*.html")
    return {
        "report": run / "report.html", "card": model / "card.html", "evaluation": work / "evaluation" / "evaluation.html",
        "cohort": quality, "explanation": yes[0], "audit": work / "audit" / "report.html",
    }  # fmt: skip


def captures_of(work: Path) -> dict[str, Path]:
    """A case that the model calls, and one that it does not."""
    cases = {True: [], False: []}
    for page in sorted((work / "why").glob("*/page.html")):
        cases["the model says yes" in page.read_text()].append(page.parent)
    return {"supports": cases[True][0], "opposes": cases[False][0]}


def main() -> None:
    """Make all of it anew."""
    out = HERE / "gallery"
    out.mkdir(exist_ok=True)
    lines = [
        "# Gallery: what there is to see", "",
        "Made by `python docs/gallery.py` from the phantom; nobody in it is real. Above each picture stands what",
        "somebody who sees it for the first time should be able to answer; that the answer is in the object is",
        "checked by the same script, and for small objects in every test run.", "",
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        pages = make(work)
        for name, exhibit in EXHIBITS.items():
            page = work / f"{name}.html"
            page.write_text(pages[name].read_text(encoding="utf-8"), encoding="utf-8")
            _require(name, exhibit.questions, text_of(page.read_text(encoding="utf-8")))
            wide, narrow = shoot(page, out)
            if name == "report":  # for the README
                top = cv2.imread(str(wide))[:TOP]
                cv2.imwrite(str(out / "report-top.webp"), top, [cv2.IMWRITE_WEBP_QUALITY, QUALITY])
            lines += [f"## {exhibit.title}", "", exhibit.about, "", *_asked(exhibit.questions), ""]
            lines += [
                f"![{exhibit.title}, on a desk](gallery/{wide.name})",
                "",
                f"[On a telephone](gallery/{narrow.name})",
                "",
            ]
        lines += ["## In the PACS", "", IN_THE_PACS, "", *_asked((*CAPTURE, *REPORT)), ""]
        for side, case in captures_of(work).items():
            capture = sorted(case.glob("heat-*.dcm"))[-1]
            _require(side, CAPTURE, read_pixels(capture))
            _require(side, REPORT, read_report(case / "sr.dcm"))
            picture = cv2.cvtColor(pydicom.dcmread(capture).pixel_array, cv2.COLOR_RGB2BGR)
            cv2.imwrite(
                str(out / f"capture-{side}.webp"),
                np.ascontiguousarray(picture),
                [cv2.IMWRITE_WEBP_QUALITY, 80],
            )
            lines += [f"![A capture of a map that {side} the finding](gallery/capture-{side}.webp)", ""]
        lines += in_a_viewer(work, out)
    (HERE / "gallery.md").write_text("\n".join(lines), encoding="utf-8")


VIEWER = r"Supports pneumonia: integrated gradients\. RESEARCH USE.*Supports pneumonia: occlusion\. RESEARCH USE.*SR.*Measurements: pneumonia"
"""What OHIF lists of a case that the model calls."""


def in_a_viewer(work: Path, out: Path) -> list[str]:
    """The study of a case that the model calls, in OHIF."""
    files = sorted(captures_of(work)["supports"].glob("*.dcm"))
    shown = pydicom.dcmread(next(file for file in reversed(files) if file.name.startswith("heat")))
    (images, *_) = sorted((work / "run" / "dicom").iterdir())
    taken = [
        file
        for file in images.glob("*.dcm")
        if pydicom.dcmread(file, stop_before_pixels=True).PatientID == shown.PatientID
    ]
    place = str(shown.StudyInstanceUID), str(shown.SeriesInstanceUID)
    said = viewer.show(work, [*taken, *files], place, "Measurements", work / "ohif.png")
    _require("OHIF", (("What of ours is in the study?", VIEWER),), said)
    cv2.imwrite(str(out / "ohif.webp"), cv2.imread(str(work / "ohif.png")), [cv2.IMWRITE_WEBP_QUALITY, 80])
    return [
        "## In a viewer", "", f"The same in OHIF ({viewer.OHIF}) before Orthanc: the hospital's image, our two series, and the report, in one study.", "",
        "![The study in OHIF](gallery/ohif.webp)", "",
    ]  # fmt: skip


def _asked(questions: tuple[tuple[str, str], ...]) -> list[str]:
    return [f"- {question}" for question, _ in questions]


def _require(name: str, questions: tuple[tuple[str, str], ...], text: str) -> None:
    if missing := unanswered(questions, text):
        raise SystemExit(f"{name}: does not answer: {'; '.join(missing)}")


if __name__ == "__main__":
    main()
