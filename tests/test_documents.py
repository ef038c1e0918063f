"""What README and docs tell people to type is there: commands, options, keys, files, links."""

import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
import typer

from client.settings import Hospital
from common import calibration, wire
from pneumofed.cli import app
from server.settings import ServerSettings
from simulation.scenario import Scenario
from tests.helpers.keys import keys

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
CODE = re.compile(r"```[a-z]*\n(.*?)```|`([^`\n]+)`", re.DOTALL)
KEYS = {*keys(Scenario), *keys(Hospital), *keys(ServerSettings)}
FILES = (".safetensors", ".onnx", ".html", ".json", ".csv", ".yaml", ".npz", ".py")
SECTIONS = {key.split(".")[0] for key in KEYS if "." in key}


def code_of(document: Path) -> list[str]:
    """Its lines of code: those in a fence, and those within a sentence."""
    text = document.read_text(encoding="utf-8")
    found = [fence or inline for fence, inline in CODE.findall(text)]
    joined = (part.replace("\\\n", " ") for part in found)
    return [line.split(" #")[0].strip() for part in joined for line in part.splitlines()]


def commands_in(line: str) -> list[list[str]]:
    """Each `pneumofed …` of a line, as words; brackets, which stand for what may be left out, are taken off."""
    found = []
    for part in re.split(r"&&|\||;|>", re.sub(r"(?<=\w)\|(?=\w)", "/", line)):
        if command := re.search(r"(?:^|\s)pneumofed(?= |$)(.*)", part):
            found.append(shlex.split(re.sub(r"[\[\]…]", " ", command[1]).replace("'", "’")))
    return found


def objections(words: list[str]) -> list[str]:
    """What of a command line is not there."""
    command, root = typer.main.get_command(app), True
    while words and hasattr(command, "commands") and not words[0].startswith("-"):
        if words[0] not in command.commands:
            return [f"no command {words[0]}"] if root or not words[0].isupper() else []
        command, words, root = command.commands[words[0]], words[1:], False
    known = {name for param in command.params for name in (*param.opts, *param.secondary_opts)} | {"--help"}
    given = [word.split("=")[0] for word in words if word.startswith("--")]
    wrong = [f"no option {name}" for name in given if name not in known]
    sets = [after for word, after in pairwise(words) if word == "--set"]
    return wrong + [
        f"no key {pair}" for pair in sets if "=" in pair and pair.split("=")[0] not in KEYS | {"key"}
    ]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_that_it_names_exists_with_its_options(document):
    wrong = [
        f"{' '.join(words)}: {objection}"
        for line in code_of(document)
        for words in commands_in(line)
        for objection in objections(words)
    ]
    assert not wrong


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_option_and_key_that_it_names_exists(document):
    wrong = []
    for line in code_of(document):
        for name in re.findall(
            r"(?<!/)\b(?:benchmarks|configs|tests|simulation|common|client|server|deploy)/[\w./-]*\.\w+", line
        ):
            if "NAME" not in name and not (ROOT / name).exists():
                wrong.append(f"no file {name}")
            elif name.startswith("benchmarks/") and "NAME" not in name:
                program = (ROOT / name).read_text(encoding="utf-8")
                wrong += [
                    f"{name} has no {o}"
                    for o in re.findall(r"--[a-z-]+", line.split(name)[1])
                    if o not in program
                ]
        if (
            re.fullmatch(r"[a-z_]+(\.[a-z_]+)+", line)
            and not line.endswith(FILES)
            and line.split(".")[0] in SECTIONS | {"policy"}
            and line not in KEYS
        ):
            wrong.append(f"no key {line}")
    for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text(encoding="utf-8")):
        if not (document.parent / target).exists():
            wrong.append(f"no such link {target}")
    assert not wrong


def test_every_number_that_leaves_is_named_to_the_hospital():
    text = " ".join((ROOT / "docs/hospital.md").read_text(encoding="utf-8").split())
    names = {
        wire.LOSS: "loss", wire.AUROC: "AUROC", wire.AUROC_SE: "the AUROC's error", wire.BRIER: "Brier score",
        wire.STEPS: "steps", wire.SECONDS: "seconds", wire.N_EXAMPLES: "patients",
    }  # fmt: skip
    told = {*wire.TRAIN_NUMBERS, *wire.EVALUATE_NUMBERS, wire.N_EXAMPLES}
    assert told - names.keys() == set(calibration.NUMBERS)
    assert f"the loss at {len(calibration.NUMBERS)} temperatures" in text
    assert all(name in text for name in names.values())


def test_what_is_not_there_is_found():
    assert objections(["simulate", "x.yaml", "--set", "training.learning_rte=1"]) == [
        "no key training.learning_rte=1"
    ]
    assert objections(["client", "aprove", "x"]) == ["no command aprove"]
    assert objections(["client", "check", "--quik"]) == ["no option --quik"]
    assert commands_in("cd x && uv run pneumofed client check [--json] | tee log") == [
        ["client", "check", "--json"]
    ]
