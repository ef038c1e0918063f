"""`pneumofed simulate`, `study`, `tune`, `phantom` and `audit-privacy`: the researcher's commands."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from pydantic_core import PydanticSerializationError
from rich.console import Console
from rich.markup import escape

from common.errors import RunError
from common.options import a_number
from common.text import printable, quoted

if TYPE_CHECKING:
    from common.results.run import RunResult
    from simulation.scenario import Scenario

QUICKSTART = Path(__file__).resolve().parent.parent / "configs" / "quickstart.yaml"


def simulate(
    plan: Annotated[
        Path | None, typer.Argument(help="Plan to run.", show_default="configs/quickstart.yaml")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override one value of the plan.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run.", show_default="runs/NAME")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an unfinished run.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print metrics.json, and nothing else, on standard output.")
    ] = False,
) -> None:
    """Simulate a federation on this machine: federated, each hospital alone, and centralised, side by
    side."""
    from common.config import load_yaml
    from common.files import next_free
    from common.report.summary import print_run
    from common.results.form import to_text
    from simulation import runs
    from simulation.scenario import Scenario

    named = plan is not None or bool(set_)
    given = load_yaml(plan or QUICKSTART, Scenario, set_ or ()) if named or not resume else None
    if out is None:
        out = (
            runs.latest_unfinished(Path("runs"))
            if resume
            else next_free(Path("runs"), given.name if given else "")
        )
    with runs.held(out):
        if resume:
            scenario = runs.resume(out, given)
        else:
            assert given is not None
            scenario = given
            runs.start(out, scenario)
        result = runs.finished_result(out) or _run(scenario, out)
    if as_json:
        typer.echo(to_text(result), nl=False)
    else:
        print_run(result, out)


def _run(scenario: "Scenario", out: Path) -> "RunResult":
    from simulation import runs
    from simulation.progress import ArmProgress, make_progress
    from simulation.simulate import simulate

    console, again = Console(stderr=True), f"pneumofed simulate --out {quoted(out)} --resume"
    console.print(
        f"[bold]{scenario.name}[/]: {scenario.rounds} rounds; preparing the hospitals' data in "
        f"{escape(printable(str(out)))}",
        highlight=False,
    )
    try:
        with make_progress(console) as progress:
            return simulate(scenario, out, lambda arm: ArmProgress(progress, arm, scenario.rounds))
    except (KeyboardInterrupt, PydanticSerializationError) as e:
        if "KeyboardInterrupt" not in repr(e):  # pydantic wraps a Ctrl-C that falls into a plan's hash
            raise
        console.print(f"stopped. Go on with: {printable(again)}", highlight=False, markup=False)
        raise typer.Exit(130) from None
    except RunError as e:
        if not runs.is_begun(out):
            raise
        raise RunError(f"{e}; go on with: {again}") from None


def study(
    name: Annotated[str, typer.Argument(help="A study of configs/studies by its name, or a file NAME.yaml.")],
    full: Annotated[
        bool, typer.Option("--full", help="More patients, rounds and seeds: hours, not minutes.")
    ] = False,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Another value for all variants.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the study.", show_default="runs/study-NAME")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print table.json on standard output.")] = False,
) -> None:
    """Answer a question by runs that differ in one thing. What is finished already is not run again."""
    from common.config import parse_overrides
    from simulation.progress import ArmProgress, make_progress
    from simulation.study import load_study, run_study, table

    title, given = load_study(name)
    folder = out or Path("runs") / f"study-{title}{'-full' if full else ''}"
    with make_progress(Console(stderr=True)) as progress:
        outcome = run_study(
            title,
            given,
            folder,
            full,
            parse_overrides(set_ or ()),
            lambda run: lambda arm: ArmProgress(progress, f"{run}, {arm}", 0),
        )
    typer.echo(
        json.dumps(outcome, indent=2) if as_json else f"{table(outcome)}\nfigure and every run: {folder}"
    )


def tune(
    search: Annotated[Path, typer.Argument(help="What to search: see configs/tuning.yaml.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the search.", show_default="runs/tune-NAME")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print search.json on standard output.")] = False,
) -> None:
    """Search a plan's values by successive halving, judged on validation patients. What is finished is not
    run again."""
    from common.config import load_yaml
    from common.report.template import number
    from simulation.progress import ArmProgress, make_progress
    from simulation.tuning import Search
    from simulation.tuning import tune as search_for_best

    folder = out or Path("runs") / f"tune-{search.stem}"
    with make_progress(Console(stderr=True)) as progress:
        outcome = search_for_best(
            load_yaml(search, Search), folder, lambda run: lambda arm: ArmProgress(progress, run, 0)
        )
    if as_json:
        typer.echo(json.dumps(outcome, indent=2))
        return
    for rung in outcome["rungs"]:
        for row in rung["ranking"]:
            values = ", ".join(f"{k}={v}" for k, v in row.items() if k not in ("candidate", "score"))
            typer.echo(f"{rung['rounds']:>4} rounds  {number(row['score'])}  {values}")
    typer.echo("best: " + " ".join(f"--set {k}={v}" for k, v in outcome["best"].items()))


def phantom(
    out: Annotated[Path, typer.Option(help="Folder to write; must not exist.")],
    sites: Annotated[int, typer.Option(min=1, max=1000, help="Number of hospitals.")] = 3,
    patients: Annotated[int, typer.Option(min=1, max=1_000_000, help="Patients at each hospital.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="The same seed writes the same files.")] = 0,
    *,
    kind: Annotated[
        Literal["growth", "trend", "relapse"],
        typer.Option(help="What ambiguous patients do. Of trend and relapse the best readers are known."),
    ] = "growth",
    ambiguous: Annotated[
        float, typer.Option(min=0.0, max=1.0, callback=a_number, help="Share of ambiguous patients.")
    ] = 0.5,
    as_json: Annotated[bool, typer.Option("--json", help="Print the best readers' AUROCs as JSON.")] = False,
) -> None:
    """Write synthetic hospitals: serial chest X-rays as DICOM, labels and the truth behind them."""
    from common.files import without_nan
    from common.report.template import number
    from simulation.phantom import READS, optima_of, write_phantom

    if out.exists():
        raise RunError(f"{out}: exists already; choose another --out")
    folders = write_phantom(out, sites, patients, seed, ambiguous, kind)
    best = optima_of(folders, kind)
    if as_json:
        typer.echo(json.dumps(without_nan({"bayes": best})))
        return
    for folder in folders:
        typer.echo(f"{folder}: {len(list(folder.glob('*.dcm')))} images of {patients} patients")
    if best is not None:
        typer.echo("The best AUROC on the ambiguous patients, by what a reader sees:")
        for reader, value in best.items():
            typer.echo(f"  {READS[reader]:<34} {number(value)}")


def audit_privacy(
    where: Annotated[Path, typer.Argument(help="A finished simulated run's folder, or a hospital's.")],
    *,
    site: Annotated[
        str | None, typer.Option(help="Which hospital of a simulated run; the first if left out.")
    ] = None,
    plan: Annotated[str | None, typer.Option(help="Which plan of a hospital: the start of its hash.")] = None,
    model: Annotated[
        Path | None, typer.Option(help="model.safetensors to attack; a simulated run has its own.")
    ] = None,
    canaries: Annotated[
        int, typer.Option(min=20, max=10_000, help="Invented patients to train on by coin.")
    ] = 200,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for report.html and audit.json.", show_default="next to the run"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print audit.json on standard output.")] = False,
) -> None:
    """Attack one site's training: who was in it, what ε is at least, and whether a patient can be drawn from
    an update."""
    from client.compute.device import choose_device, set_up_process
    from common.files import next_free, write_atomically
    from common.results.form import to_text, write
    from simulation.attacks.page import render_page
    from simulation.attacks.site import audit_site
    from simulation.attacks.subject import find_subject
    from simulation.progress import AuditProgress, make_progress
    from simulation.summary import audit_lines

    subject = find_subject(where, site, plan, model)
    set_up_process(None)
    folder = out or next_free(where, "privacy-audit")
    with make_progress(Console(stderr=True)) as progress:
        audit, drawing = audit_site(subject, canaries, choose_device("auto"), AuditProgress(progress))
    write(folder / "audit.json", audit)
    write_atomically(folder / "report.html", render_page(audit, drawing).encode())
    typer.echo(to_text(audit) if as_json else audit_lines(audit, folder), nl=not as_json)


COMMANDS = (simulate, study, tune, phantom, audit_privacy)
