"""What is known of each admitted site at this moment: is it here, and what does it do in the run."""

import datetime
from collections.abc import Mapping

from common import wire
from common.results.status import Doing, Progress, SiteState, Standing
from common.results.survey import SiteNumbers
from server.watch import Watch

IDLE: tuple[Doing, float] = ("", 0.0)


def site_states(
    connected: Mapping[str, bool],
    seen: Mapping[str, float],
    watch: Watch | None,
    declared: Mapping[str, SiteNumbers],
) -> dict[str, SiteState]:
    """By name.

    Args:
        connected: of every admitted site.
        seen: when the last request of a site came, Unix seconds.
        watch: of the run that is going on.
        declared: what the sites said when that run greeted them.
    """
    return {
        name: _state(name, here, seen.get(name), watch, declared.get(name, {}))
        for name, here in sorted(connected.items())
    }


def _state(
    name: str, connected: bool, seen: float | None, watch: Watch | None, said: SiteNumbers
) -> SiteState:
    last_seen = None
    if seen is not None:
        last_seen = datetime.datetime.fromtimestamp(seen, datetime.UTC).isoformat(timespec="seconds")
    if watch is None:
        return SiteState(connected=connected, last_seen=last_seen)
    now = watch.now
    doing, _ = watch.working.get(name, IDLE)
    return SiteState(
        connected=connected,
        last_seen=last_seen,
        standing=_standing(name, now),
        why=now.refused.get(name, ""),
        doing=doing,
        doing_s=watch.working_s(name),
        last_round=watch.last_round.get(name),
        patients={n: float(said[n]) for n in (wire.N_TRAIN, wire.N_VALIDATION) if n in said},
    )


def _standing(name: str, now: Progress) -> Standing:
    if name in now.without:
        return "left out"
    if name in now.refused:
        return "refuses"
    return "in" if name in now.here else "not here"
