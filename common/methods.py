"""Every federated method: what both sides must know of it, one row each. docs/methods.md says when to use
which.

A method that trains otherwise at a site has a file in client/methods/, one that aggregates otherwise has one
in server/strategies/; what is in the row needs no line anywhere else.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

Options = Mapping[str, float]


class Stays(StrEnum):
    """What a site keeps to itself from round to round."""

    NOTHING = "nothing"
    NORMS = "the scales and shifts of all norms"
    HEAD = "the head"
    MODEL = "a model of its own, beside the global one"
    CONTROL = "its control variate"


@dataclass(frozen=True)
class Option:
    """A number of the plan's `strategy.options`."""

    default: float
    low: float = 0.0
    high: float = 1e6
    whole: bool = False
    open_high: bool = False  # `high` itself is not allowed
    at_site: bool = False  # the server's rule does not know it

    def objection(self, value: float) -> str | None:
        """What is wrong with a value, or None."""
        kind = "a whole number" if self.whole else "a number"
        inside = self.low <= value < self.high if self.open_high else self.low <= value <= self.high
        if math.isfinite(value) and inside and not (self.whole and value != int(value)):
            return None
        end = "below" if self.open_high else "to"
        return f"found {value:g}, expected {kind} from {self.low:g} {end} {self.high:g}"


def any_number(n_sites: int, options: Options) -> str | None:
    """No number of sites is too small."""
    return None


def none_hostile(n_sites: int, options: Options) -> int:
    """A rule that nobody's rubbish leaves as it is."""
    return 0


def malicious(n_sites: int, options: Options) -> int:
    """As many hostile sites as the plan says (`num_malicious_nodes`)."""
    return int(options.get("num_malicious_nodes", 0))


def cut_off(n_sites: int, options: Options) -> int:
    """How many a trimmed mean leaves out on each side."""
    return int(options.get("beta", BETA) * n_sites)


BETA = 0.2


def at_least(least: Callable[[int], int], against: str = "") -> Callable[[int, Options], str | None]:
    """A rule for so many sites, by how many of them may be hostile (`num_malicious_nodes`)."""

    def objection(n_sites: int, options: Options) -> str | None:
        hostile = malicious(n_sites, options)
        if n_sites >= least(hostile):
            return None
        return f"found {n_sites} sites, it needs at least {least(hostile)}{against.format(hostile)}"

    return objection


def cuts_one(n_sites: int, options: Options) -> str | None:
    """A trimmed mean must cut off at least one site on each side, and leave one (Yin et al., 2018)."""
    cut = cut_off(n_sites, options)
    if cut > 0 and n_sites - 2 * cut >= 1:
        return None
    return (
        f"beta {options.get('beta', BETA):g} of {n_sites} sites cuts off {cut} on each side; expected at "
        "least one cut and one left: change strategy.options.beta"
    )


def selects_some(n_sites: int, options: Options) -> str | None:
    """Krum's least, and that it leaves out as many as may be hostile: with all selected it is a plain
    mean."""
    chosen, hostile = int(options.get("num_nodes_to_select", 1)), malicious(n_sites, options)
    if (objection := _KRUM(n_sites, options)) is not None or chosen <= n_sites - max(1, hostile):
        return objection
    return (
        f"num_nodes_to_select {chosen} of {n_sites} sites leaves out {max(0, n_sites - chosen)}; expected at "
        f"most {n_sites - max(1, hostile)}: all but the hostile ones (num_malicious_nodes), and one at least"
    )


@dataclass(frozen=True)
class Method:
    """One federated method."""

    linear: bool = True
    """The server sees the replies only through their weighted mean: one averaged reply gives the same as
    all."""
    stays: Stays = Stays.NOTHING
    control: bool = False
    """Control variates cross beside the weights."""
    options: Mapping[str, Option] = field(default_factory=dict)
    too_few: Callable[[int, Options], str | None] = any_number
    """(sites, options) -> why the rule cannot work with so few, or None."""
    hostile: Callable[[int, Options], int] = none_hostile
    """(sites, options) -> how many of them may be hostile without deciding anything."""
    plain_sgd: bool = False
    """Defined for SGD without momentum, and for all steps of a round."""

    @property
    def private(self) -> bool:
        """Whether it goes with a plan's privacy, whose account does not cover what stays at a site."""
        return self.stays is Stays.NOTHING

    @property
    def judges_own(self) -> bool:
        """Whether all scores of a run are of models that stay at the sites, and none of the common one."""
        return self.stays is Stays.MODEL


_HOSTILE = " against {} hostile ones (num_malicious_nodes)"
_MALICIOUS = Option(0, high=1000, whole=True)
_RATE = Option(0.1, low=1e-9)
_DECAY = Option(0.9, high=1.0, open_high=True)
_ADAPTIVE = {"eta": _RATE, "eta_l": _RATE, "tau": Option(1e-3, low=1e-12)}
_MOMENTS = {**_ADAPTIVE, "beta_1": _DECAY, "beta_2": Option(0.99, high=1.0, open_high=True)}
_KRUM = at_least(lambda hostile: 2 * hostile + 3, _HOSTILE)

METHODS: Mapping[str, Method] = {
    "FedAvg": Method(),  # McMahan et al., 2017
    "FedProx": Method(options={"proximal_mu": Option(0.0)}),  # Li et al., 2020
    "FedAvgM": Method(  # Hsu et al., 2019
        options={"server_learning_rate": Option(1.0, low=1e-9), "server_momentum": Option(0.0, high=1.0)}
    ),
    "FedAdam": Method(options=_MOMENTS),  # Reddi et al., 2021
    "FedYogi": Method(options=_MOMENTS),
    "FedAdagrad": Method(options=_ADAPTIVE),
    "FedMedian": Method(  # Yin et al., 2018
        linear=False, too_few=at_least(lambda _: 3), hostile=lambda n_sites, _: (n_sites - 1) // 2
    ),
    "FedTrimmedAvg": Method(
        linear=False,
        options={"beta": Option(BETA, high=0.5, open_high=True)},
        too_few=cuts_one,
        hostile=cut_off,
    ),
    "Krum": Method(  # Blanchard et al., 2017: n >= 2 f + 3
        linear=False, options={"num_malicious_nodes": _MALICIOUS}, too_few=_KRUM, hostile=malicious
    ),
    "MultiKrum": Method(
        linear=False,
        options={
            "num_malicious_nodes": _MALICIOUS,
            "num_nodes_to_select": Option(1, low=1, high=1000, whole=True),
        },
        too_few=selects_some,
        hostile=malicious,
    ),
    "Bulyan": Method(  # El Mhamdi et al., 2018: n >= 4 f + 3
        linear=False,
        options={"num_malicious_nodes": _MALICIOUS},
        too_few=at_least(lambda hostile: 4 * hostile + 3, _HOSTILE),
        hostile=malicious,
    ),
    "SCAFFOLD": Method(stays=Stays.CONTROL, control=True, plain_sgd=True),  # Karimireddy et al., 2020
    "FedBN": Method(stays=Stays.NORMS),  # Li et al., 2021
    "FedPer": Method(stays=Stays.HEAD),  # Arivazhagan et al., 2019
    "Ditto": Method(stays=Stays.MODEL, options={"lambda_": Option(0.1, at_site=True)}),  # Li et al., 2021
}
