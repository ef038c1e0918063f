"""The commands about runs: begun, followed, ended and gone on with; what they tell, and what they leave."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from common.errors import RunError
from server.options import HERE, Dir, server_at

if TYPE_CHECKING:
    from server.settings import ServerFolder

Without = Annotated[
    list[str] | None, typer.Option("--without", metavar="NAME", help="A site that is left out; repeatable.")
]
Sites = Annotated[
    int | None,
    typer.Option("--sites", min=1, help="Sites to wait for.", show_default="all that are admitted"),
]


def run(
    plan: Path,
    *,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override one value of the plan.")
    ] = None,
    at_least: Sites = None,
    without: Without = None,
    first: Annotated[bool, typer.Option("--first", help="Before all runs that are queued.")] = False,
    pretrained: Annotated[
        Path | None,
        typer.Option(
            help="The file, or the handed-over model's folder, that the plan's model.pretrained names."
        ),
    ] = None,
    dir_: Dir = HERE,
) -> None:
    """Start a run, or queue it behind the one that is going on. Sites that have not approved the plan are
    shown it first."""
    from common.config import load_yaml
    from common.plan import Plan
    from server.ask import ask
    from server.journal import note
    from server.strategies import build_strategy

    given = load_yaml(plan, Plan, set_ or ())
    build_strategy(given)  # its options are refused here, by name
    body = {
        "plan": given.model_dump(mode="json"),
        "wish": {"sites": at_least, "without": without or [], "first": first},
        "pretrained": str(pretrained.resolve()) if pretrained else None,
    }
    folder = server_at(dir_)
    answer = ask(folder, "/run", body)
    note(folder, "runs", run=str(answer["run"]), plan=given.sha256)
    _say_begun(answer, f"is started, plan {given.sha256[:12]}")


def _say_begun(answer: dict[str, object], what: str) -> None:
    if answer["place"]:
        what = f"is queued, number {answer['place']}: it begins by itself"
    typer.echo(f"Run {answer['run']} {what}. Follow it with: pneumofed server status --watch")


def status(
    watch: Annotated[bool, typer.Option("--watch", help="Draw it again every two seconds.")] = False,
    as_json: Annotated[bool, typer.Option("--json")] = False,
    dir_: Dir = HERE,
) -> None:
    """What the server and each site are doing, and the runs in the server's folder."""
    from common.results.form import to_text
    from server.ask import ask_status
    from server.status import follow, lines_of

    folder = server_at(dir_)
    if as_json:
        typer.echo(to_text(ask_status(folder)), nl=False)
    elif watch:
        follow(folder)
    else:
        typer.echo("\n".join(lines_of(folder, ask_status(folder))))


def runs(dir_: Dir = HERE, as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """All runs, with those that are queued in their order; also while no server is running."""
    from server.status import run_lines, states_of

    folder = server_at(dir_)
    states = states_of(folder)
    if as_json:
        from common.results.form import to_tree

        typer.echo(json.dumps({name: to_tree(state) for name, state in states.items()}, indent=2))
    else:
        typer.echo("\n".join(run_lines(states)) or "No run yet. Start one with: pneumofed server run PLAN")


def stop(dir_: Dir = HERE) -> None:
    """Stop the run that is going on; it can be resumed. The next that is queued begins."""
    from server.ask import ask
    from server.journal import note

    folder = server_at(dir_)
    name = str(ask(folder, "/stop", {})["run"])
    note(folder, "stops", run=name)
    typer.echo(f"{name} is stopped. Go on with: pneumofed server resume {name}")


def cancel(run: str, dir_: Dir = HERE) -> None:
    """A run that is queued, going on, stopped or failed: it never goes on. Its files stay."""
    from server.ask import ask
    from server.journal import note

    folder = server_at(dir_)
    ask(folder, "/cancel", {"run": run})
    note(folder, "cancels", run=run)
    typer.echo(f"{run} is cancelled; its files stay in {folder.runs / run}")


def resume(run: str, at_least: Sites = None, without: Without = None, dir_: Dir = HERE) -> None:
    """Go on with a run from its last finished round: with the sites that it had, or with others. One that was
    revoked is not waited for."""
    from server.ask import ask
    from server.journal import note

    folder = server_at(dir_)
    answer = ask(folder, "/resume", {"run": run, "wish": {"sites": at_least, "without": without or []}})
    note(folder, "resumes", run=run)
    _say_begun(answer, "goes on")


def survey(run: str, dir_: Dir = HERE, as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """What the sites of a run say of their patients, pooled. It is there from when the first site is in,
    before round 1."""
    from common.results.form import to_text
    from common.results.survey import FILE, read_survey
    from server.survey import table

    folder = server_at(dir_)
    if "/" in run or not (folder.runs / run / FILE).is_file():
        raise RunError(f"{run}: no site of such a run has answered yet; see: pneumofed server status")
    answers = read_survey(folder.runs / run)
    typer.echo(to_text(answers) if as_json else "\n".join(table(answers)))


def report(run: str, dir_: Dir = HERE, as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """What each hospital gained in a finished run, as the hospitals told it (evaluation.final), and the
    page."""
    from common.report.summary import print_run
    from common.results.form import to_text
    from server.report import write_report

    folder = server_at(dir_)
    result = write_report(folder.runs, run)
    if as_json:
        typer.echo(to_text(result), nl=False)
    else:
        print_run(result, folder.runs / run)


def dossier(
    run: Annotated[str, typer.Argument(help="A finished run's name, or the folder of a simulated run.")],
    out: Annotated[Path | None, typer.Option(help="New folder.", show_default="RUN-dossier")] = None,
    dir_: Dir = HERE,
) -> None:
    """What a review board asks for (TRIPOD+AI, CLAIM, model facts, DPIA, AI Act Annex IV), filled from the
    run; what only people know is marked."""
    from server.dossier.write import write_dossier
    from server.settings import ServerFolder

    place = _run_folder(run, ServerFolder(dir_))
    target = out or Path(f"{place.name}-dossier")
    for part in write_dossier(place, target):
        typer.echo(f"{part.checklist.title}: {part.n_blank} of {len(part.answers)} points are left to you")
    typer.echo(f"{target}: dossier.html to read and print, dossier.md to go on with")


def export(
    run: Annotated[str, typer.Argument(help="A finished run's name, or the folder of a simulated run.")],
    out: Annotated[
        Path | None, typer.Option(help="New folder to hand over.", show_default="RUN-model")
    ] = None,
    dir_: Dir = HERE,
) -> None:
    """Hand a trained model over: weights, plan, ONNX, and a card that is signed with the server's key."""
    from common.handover import MODEL, sha256_of
    from server.export import export_run
    from server.journal import note
    from server.settings import ServerFolder

    folder = ServerFolder(dir_)
    signer = folder if folder.settings_file.is_file() else None
    if signer is not None:
        folder.settings()  # refuses keys that others can read
    place = _run_folder(run, folder)
    target = export_run(place, out or Path(f"{place.name}-model"), signer)
    if signer is not None:
        note(signer, "exports", run=place.name, model=sha256_of(target / MODEL))
    typer.echo(f"{target}: {', '.join(sorted(p.name for p in target.iterdir()))}")
    typer.echo(
        "Signed; who gets it checks with: pneumofed client verify DIR --ca ca.crt"
        if signer
        else "Not signed: --dir is no server."
    )


def _run_folder(run: str, folder: "ServerFolder") -> Path:
    """Of a run of this server by its name, or of a simulated one by its path."""
    here = folder.runs / run
    return here if "/" not in run and folder.settings_file.is_file() and here.is_dir() else Path(run)


COMMANDS = (run, status, runs, stop, cancel, resume, survey, report, dossier, export)
