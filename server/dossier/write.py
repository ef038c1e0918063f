"""`pneumofed server dossier`: the checklists with what is known, and marked blanks: a page, and text to go on
with."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from common.config import Settings, load_yaml
from common.errors import RunError
from common.files import write_atomically
from common.handover import RESEARCH_USE
from common.report.template import render
from server.dossier.facts import facts_of, read_run
from server.runs import require_finished

HERE = Path(__file__).parent
CHECKLISTS = ("tripod-ai", "claim", "model-facts", "dpia", "annex-iv")
TEXT, PAGE = "dossier.md", "dossier.html"
BLANK = "TO BE FILLED IN"


class Item(Settings):
    """One point of a checklist."""

    id: str
    topic: str
    facts: tuple[str, ...] = Field(default=(), strict=False)
    ask: str = ""
    """What only people can say."""


class Checklist(Settings):
    """A checklist, in our words."""

    title: str
    about: str
    items: tuple[Item, ...] = Field(strict=False)


@dataclass(frozen=True)
class Answer:
    """An item with what is known; `blank` is what somebody has to fill in."""

    item: Item
    known: str
    blank: str


@dataclass(frozen=True)
class Part:
    """A checklist that is filled as far as it can be."""

    checklist: Checklist
    answers: tuple[Answer, ...]

    @property
    def n_blank(self) -> int:
        return sum(bool(answer.blank) for answer in self.answers)


def write_dossier(run: Path, out: Path) -> list[Part]:
    """Both files of a finished run, in the new folder `out`.

    Raises:
        RunError: the run is not finished, or `out` exists.
    """
    if out.exists():
        raise RunError(f"{out}: exists already, and somebody may have filled it in; choose another --out")
    require_finished(run)
    facts = facts_of(read_run(run))
    name, parts = run.name, list(fill(facts))
    write_atomically(out / TEXT, "\n".join(_text(name, facts, parts)).encode())
    values = {"name": name, "facts": facts, "parts": parts, "use": RESEARCH_USE, "blank": BLANK}
    write_atomically(out / PAGE, render(HERE / "dossier.html.j2", **values).encode())
    return parts


def fill(facts: Mapping[str, str]) -> Iterator[Part]:
    """Every checklist, with the facts that it asks for."""
    for name in CHECKLISTS:
        checklist = load_yaml(HERE / f"{name}.yaml", Checklist)
        yield Part(checklist, tuple(_answer(facts, item) for item in checklist.items))


def _answer(facts: Mapping[str, str], item: Item) -> Answer:
    known = [facts[name] for name in item.facts]
    asks = [item.ask] if item.ask else []
    if not all(known):
        asks.append("what the run does not tell")
    return Answer(item, " ".join(filter(None, known)), "; ".join(asks))


def _text(name: str, facts: Mapping[str, str], parts: list[Part]) -> Iterator[str]:
    yield f"# Dossier of {name}\n\n{facts['identity']} {RESEARCH_USE}\n"
    yield f"What stands here is what the run's files say. What they cannot say is marked **{BLANK}**.\n"
    for part in parts:
        yield f"## {part.checklist.title}\n\n{part.checklist.about}\n"
        for answer in part.answers:
            yield f"**{answer.item.id}. {answer.item.topic}**\n"
            if answer.known:
                yield f"{_plain(answer.known)}\n"
            if answer.blank:
                yield f"**[{BLANK}: {answer.blank}]**\n"


def _plain(text: str) -> str:
    """Names of scanners are foreign: nothing in them is markup."""
    return re.sub(r"([\\`*_\[\]<>#|])", r"\\\1", text)
