"""What a hospital tells of a run's last model, once, if its policy and the plan say so: its scores on its own
test patients, and how the probabilities are spread, from which the server makes the federation's."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from common.advice import ADVICE
from common.attributes import GROUPS
from common.errors import RunError, WireError
from common.results.form import IF_KNOWN, Number, Result, parse, read, to_text, write
from common.results.run import Gain, Verdict
from common.spread import MOST, Cell, Spread

FILE = "final.json"
AWAY = "it was not there at the end"
METRICS = ("auroc", "auprc", "sensitivity", "accuracy", "brier", "ece")


@dataclass(frozen=True, kw_only=True)
class FinalAnswer(Result):
    """One hospital's."""

    federated: Verdict  # accuracy at the hospital's own threshold, from its validation patients
    alone: Annotated[Verdict | None, IF_KNOWN] = None  # of the model that it trained by itself
    gain: Annotated[Gain | None, IF_KNOWN] = None
    validation: Mapping[str, Spread]  # of each finding, as the next
    test: Mapping[str, Spread]
    subgroups: Mapping[str, Mapping[str, Mapping[str, Spread]]]  # attribute -> group -> finding, on test

    def spreads(self) -> Iterator[Mapping[str, Spread]]:
        """Of each finding: on validation, on test, and of each group."""
        yield from (self.validation, self.test)
        for by_group in self.subgroups.values():
            yield from by_group.values()

    def cells(self) -> Iterator[Cell]:
        """All that are told."""
        for spreads in self.spreads():
            for spread in spreads.values():
                yield from spread


@dataclass(frozen=True, kw_only=True)
class Crossed(Result):
    """How good models that hospitals trained alone are at others (a plan's evaluation.cross)."""

    auroc: Mapping[str, Mapping[str, Number]]  # hospital of the model -> hospital of the test patients
    silent: Mapping[str, str]  # hospital -> why its own model, or a judgement of it, is not there


@dataclass(frozen=True, kw_only=True)
class FinalReport(Result):
    """final.json of a deployed run: what the server was told."""

    format: Literal["pneumofed-final-1"] = "pneumofed-final-1"
    sites: Mapping[str, FinalAnswer]
    silent: Mapping[str, str]  # site -> why it told nothing
    crossed: Annotated[Crossed | None, IF_KNOWN] = None

    def after(self, before: "FinalReport | None") -> "FinalReport":
        """With what was told before the run was stopped, and is not told again: a site may be gone since."""
        if before is None:
            return self
        sites = dict(sorted({**before.sites, **self.sites}.items()))
        silent = {s: why for s, why in {**before.silent, **self.silent}.items() if s not in sites}
        return FinalReport(sites=sites, silent=dict(sorted(silent.items())), crossed=before.crossed)

    def naming(self, trained: Iterable[str]) -> "FinalReport":
        """With those among the sites that trained who were not there to be asked."""
        absent = {site: AWAY for site in trained if site not in self.sites}
        return replace(self, silent=dict(sorted({**absent, **self.silent}.items())))


def read_answer(text: str, findings: tuple[str, ...], alone: bool) -> FinalAnswer:
    """A hospital's answer from the wire.

    Raises:
        WireError: it is none, or tells of other findings, or of another model than the plan agrees on.
    """
    try:
        answer = parse(FinalAnswer, text, "the final answer", "ask for it again")
    except RunError as e:
        raise WireError(str(e)) from None
    if any(set(spreads) != set(findings) for spreads in answer.spreads()):
        raise WireError(f"the final answer tells of other findings than {', '.join(findings)}")
    verdicts = [verdict for verdict in (answer.federated, answer.alone) if verdict is not None]
    if any(set(verdict.findings or findings) != set(findings) for verdict in verdicts):
        raise WireError("the final answer has scores of other findings than are agreed")
    if not set(answer.subgroups) <= set(GROUPS) or any(
        group not in GROUPS[name] for name, by_group in answer.subgroups.items() for group in by_group
    ):
        raise WireError("the final answer tells of other groups than are agreed")
    _require_sane(answer)
    if (answer.alone is not None) != alone or (answer.gain is not None) != alone:
        raise WireError(
            f"the final answer tells {'nothing' if alone else 'something'} of a model trained alone"
        )
    return answer


def _require_sane(answer: FinalAnswer) -> None:
    verdicts = [v for v in (answer.federated, answer.alone) if v is not None]
    scores = [s for v in verdicts for s in (v, *(v.findings or {}).values())]
    shares = [x for s in scores for name in METRICS for x in (getattr(s, name), *getattr(s, f"{name}_ci"))]
    gain = answer.gain
    counts = [sum(cell.n for cell in spread) for spreads in answer.spreads() for spread in spreads.values()]
    if (
        max(counts) > MOST
        or any(v.mean or v.calibrated or not 0 < v.n_patients <= v.n_sequences <= MOST for v in verdicts)
        or not all(math.isnan(x) or 0.0 <= x <= 1.0 for x in shares)
        or (gain and gain.advice not in ADVICE)
        or (gain and not all(math.isnan(x) or abs(x) <= 1.0 for x in (gain.value, gain.p, *gain.ci)))
    ):
        raise WireError("the final answer holds what no score can be")


def answer_text(answer: FinalAnswer) -> str:
    """For the wire; `read_answer` has it back."""
    return to_text(answer)


def read_final(folder: Path) -> FinalReport | None:
    """Of a deployed run; None if it has none. Raises RunError if it is of another version."""
    return read(FinalReport, folder / FILE, "run it again") if (folder / FILE).is_file() else None


def write_final(folder: Path, report: FinalReport) -> None:
    """Raises OSError."""
    write(folder / FILE, report)
