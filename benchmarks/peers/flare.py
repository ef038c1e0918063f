"""NVIDIA FLARE's simulator with its FedAvg recipe. `python flare.py JOB WORK`.

Each site has a process of its own, as is the simulator's default: they train beside each other, on all cores.
With fewer processes than sites it starts one anew for each site and round, which takes seconds.
"""

import sys
from pathlib import Path

import torch
from job import ENDS, Job, finished
from nvflare.app_opt.pt.recipes.fedavg import FedAvgRecipe
from nvflare.recipe import SimEnv

PROCESSES = 10
JOB, WORK = Path(sys.argv[1]), Path(sys.argv[2])


def main() -> None:
    """All rounds; the first site notes when it is given a round, which is when the one before has ended."""
    job = Job(JOB)
    recipe = FedAvgRecipe(
        name="job",
        model={"class_path": "job.FromFolder", "args": {"folder": str(JOB)}},
        min_clients=len(job.sites),
        num_rounds=job.plan.rounds,
        train_script=str(Path(__file__).with_name("flare_client.py")),
        train_args=f"{JOB} {WORK}",
    )
    processes = min(len(job.sites), PROCESSES)
    environment = SimEnv(
        num_clients=len(job.sites), num_threads=processes, workspace_root=str(WORK / "flare")
    )
    recipe.execute(environment)
    saved = next((WORK / "flare").rglob("FL_global_model.pt"))
    finished(WORK, torch.load(saved, weights_only=True)["model"])
    begun = (WORK / ENDS).read_text().splitlines()
    (WORK / ENDS).write_text("\n".join(begun[1:]) + "\n")  # the first is when round 1 began


if __name__ == "__main__":
    main()
