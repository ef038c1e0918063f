"""`pneumofed simulate`, `study`, `tune`, `phantom` and `audit-privacy`: the researcher's commands."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from common.errors import RunError

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
        typer.echo(json.dumps(result, indent=2))
    else:
        _summarise(result, out)


def _run(scenario: Any, out: Path) -> dict[str, Any]:
    from common.files import without_nan
    from simulation.progress import ArmProgress, make_progress
    from simulation.simulate import simulate

    console = Console(stderr=True)
    console.print(
        f"[bold]{scenario.name}[/]: {scenario.rounds} rounds; preparing the hospitals' data in {out}",
        highlight=False,
    )
    try:
        with make_progress(console) as progress:
            result: dict[str, Any] = without_nan(
                simulate(scenario, out, lambda arm: ArmProgress(progress, arm, scenario.rounds))
            )
    except KeyboardInterrupt:
        console.print(f"stopped. Go on with: pneumofed simulate --out {out} --resume", highlight=False)
        raise typer.Exit(130) from None
    except RunError as e:
        raise RunError(f"{e}; go on with: pneumofed simulate --out {out} --resume") from None
    return result


def _summarise(result: dict[str, Any], out: Path) -> None:
    """The answer in a few lines; the report has the rest."""
    from rich.table import Table

    console = Console(highlight=False)
    table = Table(title=f"{result['name']}: AUROC on test patients (95 % interval)", title_justify="left")
    for column in ("hospital", "patients", "alone", "federated", "gain"):
        table.add_column(column, justify="left" if column == "hospital" else "right")
    for name, site in result["sites"].items():
        local, gain = site.get("local_only"), site.get("gain")
        table.add_row(
            name, str(site["n_patients"]), _auroc(local), _auroc(site["federated"]),
            _signed(gain["value"]) if gain else "",
        )  # fmt: skip
    console.print(table)
    test = result["test"]
    alone = test.get("local_only", {}).get("mean", {})
    console.print(f"federated, all hospitals: {_auroc(test['federated'])}")
    if alone:
        console.print(
            f"alone, mean of hospitals: {_number(alone['auroc'])} (federated there "
            f"{_number(test['federated']['mean']['auroc'])})"
        )
    if "centralised" in test:
        console.print(f"centralised:              {_auroc(test['centralised'])}")
    if result["skipped"]:
        console.print(
            "left out: "
            + ", ".join(f"{reason.replace('_', ' ')} {n}" for reason, n in result["skipped"].items())
        )
    console.print(f"{result['timing']['total_s']:.0f} s; report: {out / 'report.html'}", soft_wrap=True)


def _auroc(scores: dict[str, Any] | None) -> str:
    if not scores or scores["auroc"] is None:
        return "n/a"
    low, high = scores["auroc_ci"]
    return _number(scores["auroc"]) + (f" ({low:.3f}–{high:.3f})" if low is not None else "")


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"


def _signed(value: float | None) -> str:
    return "n/a" if value is None else f"{value:+.3f}"


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
        found = run_study(
            title,
            given,
            folder,
            full,
            parse_overrides(set_ or ()),
            lambda run: lambda arm: ArmProgress(progress, f"{run}, {arm}", 0),
        )
    typer.echo(json.dumps(found, indent=2) if as_json else f"{table(found)}\nfigure and every run: {folder}")


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
    from simulation.progress import ArmProgress, make_progress
    from simulation.tuning import Search
    from simulation.tuning import tune as search_for_best

    folder = out or Path("runs") / f"tune-{search.stem}"
    with make_progress(Console(stderr=True)) as progress:
        found = search_for_best(
            load_yaml(search, Search), folder, lambda run: lambda arm: ArmProgress(progress, run, 0)
        )
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    for rung in found["rungs"]:
        for row in rung["ranking"]:
            values = ", ".join(f"{k}={v}" for k, v in row.items() if k not in ("candidate", "score"))
            typer.echo(f"{rung['rounds']:>4} rounds  {_number(row['score'])}  {values}")
    typer.echo("best: " + " ".join(f"--set {k}={v}" for k, v in found["best"].items()))


def phantom(
    out: Annotated[Path, typer.Option(help="Folder to write; must not exist.")],
    sites: Annotated[int, typer.Option(min=1, max=1000, help="Number of hospitals.")] = 3,
    patients: Annotated[int, typer.Option(min=1, help="Patients at each hospital.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="The same seed writes the same files.")] = 0,
) -> None:
    """Write synthetic hospitals: serial chest X-rays as DICOM, labels and the truth behind them."""
    from simulation.phantom import write_phantom

    if out.exists():
        raise RunError(f"{out}: exists already; choose another --out")
    for folder in write_phantom(out, sites, patients, seed):
        typer.echo(f"{folder}: {len(list(folder.glob('*.dcm')))} images of {patients} patients")


def audit_privacy(
    where: Annotated[Path, typer.Argument(help="A finished simulated run's folder, or a hospital's.")],
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
    from common.files import next_free, without_nan, write_atomically
    from simulation.attacks.page import render_page
    from simulation.attacks.site import audit_site
    from simulation.attacks.subject import find_subject
    from simulation.progress import AuditProgress, make_progress

    subject = find_subject(where, site, plan, model)
    set_up_process(None)
    folder = out or next_free(where, "privacy-audit")
    with make_progress(Console(stderr=True)) as progress:
        found, drawing = audit_site(subject, canaries, choose_device("auto"), AuditProgress(progress))
    found = without_nan(found)
    write_atomically(folder / "audit.json", (json.dumps(found, indent=2, allow_nan=False) + "\n").encode())
    write_atomically(folder / "report.html", render_page(found, drawing).encode())
    typer.echo(json.dumps(found, indent=2) if as_json else _audit_summary(found, folder))


def _audit_summary(found: dict[str, Any], folder: Path) -> str:
    lines = [f"{found['site']}, plan {found['plan']}, delta {found['delta']:g}"]
    for name in ("private", "plain"):
        if attack := found[name]:
            most = f"at most {found['epsilon_of_run']:.3f}" if name == "private" else "no upper bound"
            lines.append(
                f"{'with' if name == 'private' else 'without'} privacy: epsilon at least "
                f"{attack['epsilon_at_least']:.3f} "
                f"({attack['right']} of {attack['guesses']} guesses right), {most}"
            )
    if found["membership"]:
        lines.append(
            f"membership in the finished model: AUROC {_number(found['membership']['auroc']['value'])} (0.5 "
            "is a coin)"
        )
    drawn = found["inversion"]
    private = "" if drawn["private"] is None else f", with privacy {drawn['private']:.3f}"
    lines.append(
        f"drawing a patient from one update, likeness: without privacy {drawn['plain']:.3f}{private}"
    )
    return "\n".join([*lines, f"report, which shows a patient's images: {folder / 'report.html'}"])


COMMANDS = (simulate, study, tune, phantom, audit_privacy)
