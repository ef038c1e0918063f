"""`pneumofed server report`: a finished run's page, from what its hospitals told."""

from pathlib import Path

from common.config import load_yaml
from common.errors import RunError
from common.files import write_atomically
from common.handover import PLAN
from common.plan import Plan
from common.report.page import render_report
from common.results.final import read_final
from common.results.rounds import read_history
from common.results.run import RunResult, read_result

PAGE = "report.html"


def write_report(runs: Path, name: str) -> RunResult:
    """Write report.html into the folder of the run `name`; returns what it is made of.

    Raises:
        RunError: there is no such run, it is not finished, or no hospital told final scores; says why not.
    """
    folder = runs / name
    final = read_final(folder) if "/" not in name else None
    if final is None:
        raise RunError(
            f"{name}: no finished run with final scores; a plan with evaluation.final has them at its end: "
            "pneumofed server status"
        )
    if not final.sites:
        why = "; ".join(f"{site}: {reason}" for site, reason in final.silent.items()) or "no site was there"
        raise RunError(f"{name}: no hospital told final scores: {why}")
    plan, result = load_yaml(folder / PLAN, Plan), read_result(folder)
    page = render_report(plan, result, {"federated": read_history(folder)})
    write_atomically(folder / PAGE, page.encode())
    return result
