"""What FLARE runs at each site. `JOB WORK` are its arguments."""

import sys
from pathlib import Path

import nvflare.client as flare
import torch
from job import Job, round_ended, train


def main(job: Job, work: Path) -> None:
    """Train whenever there is a round."""
    torch.set_num_threads(1)
    flare.init()
    number = int(flare.get_site_name().removeprefix("site-")) - 1
    model, plan = job.model(), job.plan
    while flare.is_running():
        given = flare.receive()
        if number == 0:
            round_ended(work)
        model.load_state_dict({name: torch.as_tensor(w) for name, w in given.params.items()})
        n = train(model, job.sites[number], plan, given.current_round + 1)
        flare.send(flare.FLModel(params=model.state_dict(), meta={"NUM_STEPS_CURRENT_ROUND": n}))


if __name__ == "__main__":
    main(Job(Path(sys.argv[1])), Path(sys.argv[2]))
