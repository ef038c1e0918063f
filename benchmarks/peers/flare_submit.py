"""Sends a job to a FLARE server that runs, and waits for its end. `python flare_submit.py JSON`."""

import json
import sys
import time
from pathlib import Path

from nvflare.app_common.np.recipes.fedavg import NumpyFedAvgRecipe
from nvflare.fuel.flare_api.flare_api import new_secure_session
from nvflare.recipe import ProdEnv

USER = "admin@nvidia.com"


def wait_for_sites(kit: str, n_sites: int) -> None:
    """Until the server lets its user in and has all sites."""
    while True:
        try:
            session = new_secure_session(username=USER, startup_kit_location=kit)
        except Exception as e:  # FLARE's errors have no common kind: whoever started this gives up in time
            print(f"not yet: {type(e).__name__}: {e}")
            time.sleep(0.5)
            continue
        try:
            if len(session.get_system_info().client_info) == n_sites:
                return
        finally:
            session.close()
        time.sleep(0.5)


def main(kit: str, sites: int, rounds: int) -> None:
    """All rounds of its FedAvg."""
    wait_for_sites(kit, sites)
    recipe = NumpyFedAvgRecipe(
        name="echo",
        initial_ckpt=str(Path("first.npy").resolve()),
        min_clients=sites,
        num_rounds=rounds,
        train_script=str(Path(__file__).with_name("flare_site.py")),
    )
    job = recipe.execute(ProdEnv(startup_kit_location=kit))
    result = job.get_result()
    print(job.get_status(), result)
    sys.exit(0 if result and "FINISHED:COMPLETED" in str(job.get_status()) else 1)


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
