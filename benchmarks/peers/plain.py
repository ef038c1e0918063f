"""The floor: a loop over rounds and sites, in one process. `python plain.py JOB WORK`."""

import sys
from pathlib import Path

import torch
from job import Job, finished, round_ended, train


def main(job: Job, work: Path) -> None:
    """Federated averaging by hand."""
    plan, model = job.plan, job.model()
    weights = {name: w.clone() for name, w in model.state_dict().items()}
    for number in range(1, plan.rounds + 1):
        mean, total = {name: torch.zeros_like(w) for name, w in weights.items()}, 0
        for site in job.sites:
            model.load_state_dict(weights)
            n = train(model, site, plan, number)
            total += n
            for name, w in model.state_dict().items():
                mean[name] += n * w
        weights = {name: w / total for name, w in mean.items()}
        round_ended(work)
    finished(work, weights)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Job(Path(sys.argv[1])), Path(sys.argv[2]))
