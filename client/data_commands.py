"""The commands with which images come in, and a patient goes."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from client.options import HERE, Dir, site_at
from client.plan_commands import given_plan
from common.errors import DataError
from common.text import quoted

if TYPE_CHECKING:
    from client.imaging.quality import Doubt, Quality
    from client.settings import SiteFolder

TOLD_EVERY_S = 10.0
INGESTING = "An ingest is going on: what it writes is looked through when it ends."


def ingest(
    plan: Annotated[str, typer.Argument(help="The plan's hash or its beginning, or a plan file.")],
    dir_: Dir = HERE,
    model: Annotated[
        Path | None, typer.Option(help="A model's folder: the page shows the labels that it doubts.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what the cohort is like as JSON.")] = False,
) -> None:
    """Read the hospital's images into a cohort for a plan's input contract, and say what it is like."""
    from client.imaging.cohort import Cohort
    from client.imaging.quality import describe, render_page
    from client.ingest import ingest_site
    from common.files import write_atomically
    from common.progress import reporting

    folder, given = site_at(dir_), given_plan(plan, dir_)
    with reporting():
        place = ingest_site(folder, given)
    cohort = Cohort.open(place)
    cohort_quality = describe(cohort, given)
    page = place.with_name(f"{place.name}.html")
    doubted = _doubts(folder, place, model) if model else None
    write_atomically(page, render_page(cohort_quality, cohort, given.name, doubts=doubted).encode())
    typer.echo(
        json.dumps(asdict(cohort_quality), indent=2)
        if as_json
        else _quality_summary(cohort_quality, place, page)
    )


def _doubts(folder: "SiteFolder", place: Path, model: Path) -> "list[Doubt]":
    from client.compute.device import choose_device, set_up_process
    from client.prediction.doubts import doubts
    from common.handover import read_model

    set_up_process()
    return doubts(read_model(model), place, folder, choose_device(folder.settings().device))


def _quality_summary(quality: "Quality", place: Path, page: Path) -> str:
    lines = [f"{quality.sequences} sequences, {quality.images} images in {place}"]
    lines += [f"  left out, {row.words}: {row.count} {row.of}" for row in quality.left_out]
    lines += [f"  used, look at them: {row.words}: {row.count}" for row in quality.notes]
    if shared := quality.same_pixels_under_two_patients:
        lines.append(f"  look at them: {shared} images with the same pixels under two patients")
    if quality.removed:
        names = sorted(quality.removed, key=quality.removed.__getitem__, reverse=True)
        lines.append(
            f"  left behind at the door: "
            f"{', '.join(names[:6])}{f' and {len(names) - 6} more' if len(names) > 6 else ''}"
        )
    lines.append(quality.verdict.line)
    return "\n".join([*lines, f"What it is like, with pictures: {page}"])


def pull(
    plan: Annotated[str, typer.Argument(help="The plan's hash or its beginning, or a plan file.")],
    dir_: Dir = HERE,
) -> None:
    """Fetch the images that the labels are about from the PACS. What is there already is not fetched
    again."""
    from client.pacs.pull import TO_LOOK_AT, Outcome
    from client.pacs.site import pulling
    from common.progress import reporting

    folder, given = site_at(dir_), given_plan(plan, dir_)
    with reporting(), pulling(folder, given) as (work, wanted):
        for _ in work.run(wanted):
            pass
    for outcome in Outcome:
        typer.echo(f"{work.outcomes[outcome]:>6} {outcome.value}")
    if any(work.outcomes[one] for one in TO_LOOK_AT):
        typer.echo(f"Which, and why: {folder.logs / 'pull.log'}. Run this again to try them once more.")
        raise typer.Exit(1)  # `pull && ingest` must not go on with other images than the PACS has
    typer.echo(f"Next: pneumofed client ingest {quoted(plan)}")


def receive(dir_: Dir = HERE) -> None:
    """Take the images that the PACS pushes (C-STORE) until this is ended (Ctrl-C, SIGTERM)."""
    from client.pacs.site import receiving, told_to_end

    folder = site_at(dir_)
    pacs = folder.settings().data.pacs
    with receiving(folder) as inbox:
        assert pacs is not None  # receiving said so
        typer.echo(
            f"Listening on {pacs.listen}:{pacs.own_port} as {pacs.own_title}, for {pacs.title} alone. Ctrl-C "
            "ends."
        )
        ended, told = told_to_end(), 0
        while not ended.wait(TOLD_EVERY_S):
            if inbox.pushed != told:
                told = inbox.pushed
                typer.echo(f"{told} images have come.")
    typer.echo(f"{inbox.pushed} images came.")


def forget(
    patient: Annotated[str, typer.Argument(help="Patient ID, as in the files.")], dir_: Dir = HERE
) -> None:
    """Remove a patient from everything that this site keeps for learning, for ever."""
    from client.forgetting import forget_patient
    from client.settings import SiteFolder
    from common.progress import reporting

    with reporting():
        gone = forget_patient(SiteFolder(dir_), patient, lambda: typer.echo(INGESTING, err=True))
    if gone.nothing:
        raise DataError(
            "nothing of this patient was found here: is the Patient ID right? It is on the list all the "
            "same: later pulls, pushes and ingests leave it out"
        )
    typer.echo(
        f"Removed {gone.sequences} sequences with {gone.frames} images from {gone.cohorts} cohorts, and "
        "their pages."
    )
    typer.echo(
        f"Deleted {len(gone.files)} fetched files and {gone.lines} lines of logs. Later pulls, pushes and "
        "ingests leave the patient out."
    )
    if gone.elsewhere:
        still = (
            f"{len(gone.elsewhere)} files with this Patient ID are still in the folder that data.dicom names"
        )
        typer.echo(f"{still}, which pneumofed never changes.")
    if gone.named:
        typer.echo(f"Still in this site's folder, for you to remove or change: {_names(gone.named, dir_)}.")
    if gone.unread:
        typer.echo(f"Could not be looked into, and may be the patient's: {_names(gone.unread, dir_)}.")
    typer.echo("Backups and tables of labels are yours to change.")
    typer.echo("Models that were trained already are not changed: they cannot forget (docs/privacy.md).")


def _names(paths: list[Path], folder: Path) -> str:
    """Of the first eight."""
    more = f" and {len(paths) - 8} more" if len(paths) > 8 else ""
    shown = (path.relative_to(folder) if path.is_relative_to(folder) else path for path in paths[:8])
    return ", ".join(map(str, shown)) + more


COMMANDS = (pull, receive, ingest, forget)
