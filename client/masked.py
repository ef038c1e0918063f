"""A site's answers in a round of secure aggregation (common/secure/messages.py has the stages), and its
update under masks."""

from dataclasses import replace

from flwr.app import ArrayRecord, RecordDict

from client.governance.peers import Peers
from client.secure import Party, SecureRound, SecureRounds
from client.site import Site
from common import wire
from common.aggregate import clipped
from common.credentials import read_key
from common.errors import DataError, WireError
from common.secure import messages as secure
from common.secure.keys import Advert, Moment
from common.secure.levels import Levels
from common.secure.ring import FULL, to_ring

_rounds = SecureRounds()
"""Of the sites of this process."""


def begin(site: Site, content: RecordDict) -> Advert:
    """The site's keys of a round. Raises DataError if the node configuration does not say who it is."""
    moment, config, threshold = _moment(site, content), site.config, site.plan.aggregation.threshold
    if config.identity is None or config.peers is None or config.memory is None or threshold is None:
        raise DataError("the plan has secure aggregation, and the node no identity, peers or memory")
    key, peers, folder = read_key(config.identity), Peers(config.peers), config.memory / moment.run
    return _rounds.begin(Party(key, config.site, threshold, peers, folder), moment).advert


def current(site: Site, content: RecordDict) -> SecureRound:
    """This site's part in the round that a request is about. Raises WireError."""
    return _rounds.current(site.config.site, _moment(site, content))


def _moment(site: Site, content: RecordDict) -> Moment:
    """Raises WireError: another plan, no secure aggregation, or a round that the plan does not have."""
    number = site.round_in(content)
    if not site.plan.aggregation.secure:
        raise WireError("the plan has no secure aggregation")
    return Moment(site.plan.sha256, wire.get_text(content, wire.RUN), number)


def share(site: Site, content: RecordDict) -> secure.Sealed:
    """To each peer a share of the site's secrets. Raises WireError, before it trains and under privacy pays
    for it, if the roster's bounds are none for this plan."""
    roster = secure.take(content, secure.ROSTER, secure.Roster)
    _levels(site, roster)
    return current(site, content).share(roster, site.n_examples)


def _levels(site: Site, roster: secure.Roster) -> Levels | None:
    """The integers of a masked update, under a plan with a codec."""
    return Levels.of(site.plan, site.schema.shapes, len(roster.adverts), roster.bounds)


def join(site: Site, content: RecordDict) -> None:
    """The round with all whose shares came. Raises RefusedError, WireError."""
    sealed, answered = secure.take(content, secure.SEALED, secure.Sealed), site.sending(content).answered
    current(site, content).open(sealed, site.cohort.fingerprint, answered)
    if (run := site.coded_run(content)) is not None:
        run.require_newest(answered)


def pack(site: Site, content: RecordDict, start: wire.Weights, update: wire.Weights) -> ArrayRecord:
    """The update under masks, of at most the plan's norm: the server cannot see it, and its sum must not
    wrap."""
    begun, name, most = current(site, content), site.config.site, site.plan.federation.max_update_norm
    levels, run, bits = _levels(site, begun.roster), site.coded_run(content), FULL
    if levels is None or run is None:
        vector = to_ring(clipped(update, most), begun.roster.weights[name], most)
    else:
        share, bits = begun.roster.share([name]), levels.bits
        vector = run.sent(
            clipped(update, most),  # what is beyond the plan's norm is nobody's due
            replace(site.sending(content), carries=begun.carries),
            lambda whole, _: levels.encode(clipped(whole, most), share, begun.rounding()),
        )
    return secure.pack_masked(begun.mask(vector, start, bits), bits)
