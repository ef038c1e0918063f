"""A clock that never jumps, for Flower's link state: it counts deadlines and heartbeats by the machine's wall
clock, which an administrator or NTP may set hours on or back in the middle of a round.
"""

import datetime
import time

from flwr.server.superlink.linkstate import in_memory_linkstate, utils
from flwr.server.utils import validator
from flwr.supercore.corestate import in_memory_corestate

_STARTED, _THEN = datetime.datetime.now(datetime.UTC), time.monotonic()


def now() -> datetime.datetime:
    """The time at which this process began, and what has passed since by the monotonic clock; UTC."""
    return _STARTED + datetime.timedelta(seconds=time.monotonic() - _THEN)


def keep_flower_steady() -> None:
    """Let the link state of this process count by `now` alone."""
    for module in (in_memory_linkstate, in_memory_corestate, utils, validator):
        assert hasattr(module, "now"), f"Flower's {module.__name__} has changed"
        vars(module)["now"] = now
