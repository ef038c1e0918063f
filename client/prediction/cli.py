"""`pneumofed evaluate`, and `pneumofed client predict`, `explain` and `verify`: a trained model, used."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from client.options import HERE, Dir
from common.options import a_number

if TYPE_CHECKING:
    from client.prediction.prevalence import Shift
    from client.settings import SiteFolder
    from common.handover import Handed
    from common.results.evaluation import EvaluationResult


class Parts(StrEnum):
    """Of labelled patients."""

    TEST = "test"
    VALIDATION = "validation"
    ALL = "all"


CHOOSES = "Choose the threshold on the validation part."
Site = Annotated[
    Path | None,
    typer.Option("--dir", help="This site's folder, if it took part.", envvar="PNEUMOFED_CLIENT_DIR"),
]
Model = Annotated[
    Path, typer.Option(help="The folder that was handed over (server export), or a simulated run's.")
]
Input = Annotated[
    Path,
    typer.Option(
        "--input",
        help="A folder of DICOM files or with index.csv, one file (DICOM, .npz), or a cohort's folder.",
    ),
]


def _site(given: Path | None, *, or_here: bool = False) -> "SiteFolder | None":
    """The site whose folder was given; with `or_here` that in whose folder the command runs. Not where its
    split would be told of images that are not the site's."""
    from client.settings import SiteFolder

    here = SiteFolder(Path())
    return SiteFolder(given) if given else here if or_here and here.settings_file.is_file() else None


def _handed(model: Path, site: "SiteFolder | None") -> "Handed":
    """A model to be used. At a site that knows the federation's CA, a signature must count there."""
    from common.handover import read_model, read_signed

    if site is None or not site.ca.is_file():
        return read_model(model)
    return read_signed(model, site.ca, site.revoked)[0]


def predict(
    model: Model,
    source: Input,
    out: Annotated[Path, typer.Option(help="Folder for predictions.csv and predictions.json.")],
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:n.")] = "auto",
    prevalence: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[FINDING=]P|estimate",
            help="Correct for the share P of these patients with the finding, or for its estimate of them.",
        ),
    ] = None,
    dir_: Site = None,
) -> None:
    """Probabilities for every sequence. Research use, not a medical device."""
    from client.compute.device import choose_device, set_up_process
    from client.imaging.outcome import Tally
    from client.prediction.cases import Refusal, doubts_of
    from client.prediction.model import load_model
    from client.prediction.predict import NEWEST, predict_source, write_predictions
    from client.prediction.prevalence import asked, for_prevalence
    from common.handover import RESEARCH_USE

    set_up_process()
    site = _site(dir_)
    handed, where, tally = _handed(model, site), choose_device(device), Tally()
    wishes = asked(prevalence or (), handed)
    rows = predict_source(handed, load_model(handed, where, site), source, where, tally, site)
    rows, shifts = for_prevalence(handed, rows, wishes)
    write_predictions(out, handed, rows, tally, {finding: one.told() for finding, one in shifts.items()})
    refused = sum(isinstance(row, Refusal) for row in rows)
    typer.echo(
        f"{len(rows) - refused} sequences in "
        f"{out / 'predictions.csv'}{f', {refused} refused' if refused else ''}. {RESEARCH_USE}"
    )
    if handed.plan.input.label == "visit":
        typer.echo(f"  about {NEWEST}")
    for line in (*_shifts(shifts), *doubts_of(tally)):
        typer.echo(f"  {line}")


def _shifts(shifts: Mapping[str, "Shift"]) -> Iterator[str]:
    """What probabilities were corrected for, for a terminal."""
    from common.report.template import interval, number

    for finding, one in shifts.items():
        before = f"{number(one.asked.reference.prevalence)} among the patients it was judged on"
        if one.found is None:
            yield f"{finding}: probabilities are for a prevalence of {number(one.now)}, given; {before}"
        else:
            estimate = one.found.estimate
            ends, n = interval(estimate.interval), one.found.n_patients
            found = f"{number(estimate.value)}  {ends}"
            yield f"{finding}: prevalence {found} of {n} patients, estimated; {before}"
        if one.threshold is not None:
            yield f"{finding}: called from {number(one.threshold)} on: the same patients as before"
        yield from (f"{finding}: {doubt}" for doubt in one.doubts)


def evaluate(
    model: Annotated[Path, typer.Argument(help="A folder that was handed over, or a simulated run's.")],
    on: Annotated[
        Path,
        typer.Option(help="A cohort, a folder of DICOM files or with index.csv, or a MedMNIST-style .npz."),
    ],
    *,
    labels: Annotated[
        Path | None, typer.Option(help="Labels of DICOM files; labels.csv among them if left out.")
    ] = None,
    part: Annotated[Parts, typer.Option(help="Which patients. all: training patients too.")] = Parts.TEST,
    against: Annotated[Path | None, typer.Option(help="Another model, judged on the same patients.")] = None,
    threshold: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, callback=a_number, help="Instead of the model's own.")
    ] = None,
    at_sensitivity: Annotated[
        float | None,
        typer.Option(
            min=0.0, max=1.0, callback=a_number, help="Choose the threshold on the validation part."
        ),
    ] = None,
    at_specificity: Annotated[
        float | None,
        typer.Option(
            min=0.0, max=1.0, callback=a_number, help="Choose the threshold on the validation part."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for evaluation.html and evaluation.json.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print evaluation.json.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:n.")] = "auto",
    dir_: Site = None,
) -> None:
    """How good a model is on labelled patients, with intervals. Research use, not a medical device."""
    from client.compute.device import choose_device, set_up_process
    from client.prediction.judging.evaluate import Wish
    from client.prediction.judging.evaluate import evaluate as judge
    from client.prediction.judging.labelled import Place
    from common.errors import ConfigError
    from common.handover import read_model

    asked = {"sensitivity": at_sensitivity, "specificity": at_specificity}
    rates = [(what, rate) for what, rate in asked.items() if rate is not None]
    if len(rates) + (threshold is not None) > 1:
        raise ConfigError("expected one of --threshold, --at-sensitivity and --at-specificity")
    set_up_process()
    place = Place(on, labels, _site(dir_))
    wish = Wish(part.value, threshold, at=rates[0] if rates else None)
    other = read_model(against) if against else None
    _tell(judge(read_model(model), other, place, wish, choose_device(device)), out, as_json=as_json)


def _table(result: "EvaluationResult", out: Path | None) -> list[str]:
    """For a terminal."""
    from common.handover import RESEARCH_USE
    from common.report.template import interval, number

    lines = [f"{result.model} on {result.on}, part {result.part}: {result.n_patients} patients"]
    for name, one in result.findings.items():
        lines.append(f"{name}: {one.who}; threshold {number(one.threshold)} ({one.threshold_from})")
        for key in ("auroc", "auprc", "sensitivity", "specificity", "accuracy", "brier", "ece"):
            lines.append(f"  {key:<12} {number(getattr(one, key))}  {interval(getattr(one, f'{key}_ci'))}")
        if one.against:
            lines.append(
                f"  AUROC less that of {result.against} ({number(one.against.auroc)}): "
                f"{number(one.against.value, '+.3f')}  {interval(one.against.ci)}: {one.against.advice}"
            )
    lines += [f"  left out: {n} {reason.replace('_', ' ')}" for reason, n in result.left_out.items()]
    lines += [f"note: {one}" for one in result.warnings]
    return [*lines, *([f"{out / 'evaluation.html'}"] if out else []), RESEARCH_USE]


def gain(
    model: Annotated[Path, typer.Argument(help="The folder that was handed over.")],
    out: Annotated[Path, typer.Option(help="Folder for evaluation.html and evaluation.json.")] = Path("gain"),
    pretrained: Annotated[
        Path | None, typer.Option(help="The file that the plan's model.pretrained names.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print evaluation.json.")] = False,
    dir_: Dir = HERE,
) -> None:
    """What the federation gained this hospital: its model against the one that the hospital trains alone."""
    from client.gain import gain_of
    from client.settings import SiteFolder
    from common.progress import reporting

    with reporting():
        result = gain_of(SiteFolder(dir_), model, pretrained)
    _tell(result, out, as_json=as_json)


def _tell(result: "EvaluationResult", out: Path | None, *, as_json: bool) -> None:
    """To the folder, if there is one, and to whoever reads the output."""
    from common.files import write_atomically
    from common.report.evaluation import render_evaluation
    from common.results.evaluation import write_evaluation
    from common.results.form import to_text

    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        write_evaluation(out, result)
        write_atomically(out / "evaluation.html", render_evaluation(result).encode())
    typer.echo(to_text(result) if as_json else "\n".join(_table(result, out)), nl=not as_json)


def explain(
    model: Model,
    source: Input,
    out: Annotated[Path, typer.Option(help="New folder; one folder a patient in it.")],
    *,
    patient: Annotated[
        str | None, typer.Option(help="Only this patient (as in the files, or a cohort's pseudonym).")
    ] = None,
    finding: Annotated[str | None, typer.Option(help="Which finding; the model's first if left out.")] = None,
    most: Annotated[int, typer.Option(min=1, help="So many patients at most.")] = 10,
    dicom: Annotated[
        bool, typer.Option("--dicom", help="Also a structured report and secondary captures.")
    ] = False,
    store: Annotated[
        bool, typer.Option("--store", help="Send them to the PACS of hospital.yaml (needs --dir).")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:n.")] = "auto",
    dir_: Site = None,
) -> None:
    """Why: which visits and which regions decided, and how far to believe it. Research use, not a medical
    device."""
    from client.compute.device import choose_device, set_up_process
    from client.imaging.outcome import Tally
    from client.prediction.cases import doubts_of
    from client.prediction.explain.write import Request, explain_source
    from client.prediction.model import load_own
    from common.errors import ConfigError
    from common.handover import RESEARCH_USE

    set_up_process()
    site = _site(dir_, or_here=store)
    if store and site is None:
        raise ConfigError("--store: expected --dir, the site's folder, whose hospital.yaml names the PACS")
    handed, where = _handed(model, site), choose_device(device)
    if finding is not None and finding not in handed.plan.findings:
        raise ConfigError(f"--finding {finding}: the model has {', '.join(handed.plan.findings)}")
    network = load_own(handed, where, site)
    request = Request(finding or handed.plan.findings[0], patient, most, dicom or store)
    tally = Tally()
    written = explain_source(handed, network, source, out, where, request, tally=tally)
    for folder, one in written:
        turning = f"turning at image {one.turning + 1} of {len(one.case.pixels)}"
        typer.echo(f"{folder}: {one.finding} {one.probability:.2f}, {turning}")
    for doubt in doubts_of(tally):
        typer.echo(f"  {doubt}")
    if store and site is not None:
        from client.pacs.site import store_files

        files = [file for folder, _ in written for file in sorted(folder.glob("*.dcm"))]
        typer.echo(f"{store_files(site, files)} DICOM objects are stored in the PACS.")
    typer.echo(RESEARCH_USE)


def read(
    model: Model,
    accession: Annotated[
        list[str] | None,
        typer.Option(help="Only the studies with this accession number, once; may be given again."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:n.")] = "auto",
    dir_: Dir = HERE,
) -> None:
    """Read the studies that the PACS announces (C-STORE), as they come, until this is ended, and file the
    results beside them. Research use, not a medical device."""
    from client.compute.device import choose_device, set_up_process
    from client.pacs.arrivals import Arrivals
    from client.pacs.site import on_call, told_to_end
    from client.prediction.model import load_own
    from client.prediction.on_call import QUIET_S, OnCall
    from client.prediction.reading import Reader
    from client.settings import SiteFolder
    from common.files import held
    from common.handover import RESEARCH_USE, UNSIGNED, read_signed

    set_up_process()
    site, where = SiteFolder(dir_), choose_device(device)
    handed, signer = read_signed(model, site.ca, site.revoked)
    network = load_own(handed, where, site)
    with ExitStack() as stack:
        # `--accession` may run beside the reader on call: each has a place of its own for what it reads.
        if accession:
            stack.enter_context(held(site.once_lock, "another `client read --accession` runs; wait for it"))
            shutil.rmtree(site.once, ignore_errors=True)
            stack.callback(shutil.rmtree, site.once, ignore_errors=True)
        arrivals = Arrivals(site.once if accession else site.arrived)
        ring = None if accession else lambda study: arrivals.ring(study, QUIET_S)
        pacs, archive = stack.enter_context(on_call(site, ring))
        reader = Reader(site, archive, pacs.images_per_second, handed, network, where)
        duty = OnCall(reader, arrivals, typer.echo)
        typer.echo(
            f"Model {handed.plan.name}, {f'signed by {signer}' if signer else UNSIGNED}. {RESEARCH_USE}"
        )
        if accession:
            duty.read_numbers(accession, site.logs / "read.log")
            return
        typer.echo(f"On call on {pacs.listen}:{pacs.own_port} as {pacs.own_title}, for {pacs.title} alone.")
        duty.serve(told_to_end())
    for end, n in duty.ends.items():
        typer.echo(f"{n:>6} {end.value}")


def verify(
    model: Annotated[Path, typer.Argument(help="The folder that was handed over.")],
    ca: Annotated[
        Path | None, typer.Option(help="The federation's CA certificate; this site's if left out.")
    ] = None,
    revoked: Annotated[
        Path | None,
        typer.Option(help="The CA's list of revoked certificates (ca.crl); beside the CA's if left out."),
    ] = None,
    dir_: Dir = HERE,
) -> None:
    """Check that a model's folder was signed by the federation, and every file in it."""
    from client.settings import SiteFolder
    from common.handover import verify_model
    from common.signature import Authority

    trusted = ca or SiteFolder(dir_).ca
    signer = verify_model(model, Authority.read(trusted, revoked or trusted.with_name("ca.crl")))
    typer.echo(f"{model}: whole, and signed by {signer}.")


COMMANDS = (predict, explain, read, gain, verify)
