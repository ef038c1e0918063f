"""What FLARE runs at each site of a deployment: a client that echoes."""

import echo
import nvflare.client as flare
from nvflare.app_common.np.constants import NPConstants


def main() -> None:
    """Answer whenever there is a round: the weights that came, and the update added."""
    flare.init()
    while flare.is_running():
        given = flare.receive()
        echo.arrived()
        weights = given.params[NPConstants.NUMPY_KEY]
        site, number = flare.get_site_name(), given.current_round + 1
        update = echo.update({NPConstants.NUMPY_KEY: weights.shape}, site, number)
        params = {name: weights + u for name, u in update.items()}
        flare.send(flare.FLModel(params=params, meta={"NUM_STEPS_CURRENT_ROUND": 100}))


if __name__ == "__main__":
    main()
