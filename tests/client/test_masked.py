import numpy as np
import pytest
from flwr.app import ConfigRecord, RecordDict

from client import masked
from client.site import Site
from client.worker import make_context
from common import wire
from common.errors import DataError, WireError
from common.models import build_model
from common.secure import messages as secure
from common.secure.ring import FULL
from tests.helpers.plans import small_plan
from tests.helpers.secure import secure_plan, with_identities

PLAN = secure_plan()


@pytest.fixture
def sites(federation, tmp_path):
    nodes = with_identities(federation(PLAN, 2), tmp_path)
    return [Site.of(make_context(k, node)) for k, node in enumerate(nodes)]


def request(plan=PLAN, number=1, **texts):
    content = RecordDict()
    content[wire.CONFIG] = ConfigRecord(
        {wire.PLAN_SHA256: plan.sha256, wire.RUN: "r1", wire.ROUND: number, wire.ANSWERED: 0}
    )
    for key, value in texts.items():
        secure.put(content, getattr(secure, key), value)
    return content


def test_the_same_update_is_another_noise_from_each_site(sites):
    adverts = tuple(masked.begin(site, request()) for site in sites)
    counts = {site.config.site: float(site.n_examples) for site in sites}
    roster = secure.Roster(adverts=adverts, weights=counts)
    sealed = {site.config.site: masked.share(site, request(ROSTER=roster)) for site in sites}
    start = wire.get_weights(build_model(PLAN))
    for site in sites:
        name = site.config.site
        theirs = {peer: by.shares[name] for peer, by in sealed.items() if peer != name}
        masked.join(site, request(SEALED=secure.Sealed(shares=theirs)))
    update = {name: np.full_like(tensor, 1e-3) for name, tensor in start.items()}
    n = sum(tensor.size for tensor in start.values())
    first, second = (
        secure.unpack_masked(masked.pack(site, request(), start, update), n, FULL) for site in sites
    )
    assert not np.array_equal(first, second)
    assert len(np.unique(first)) > n // 2


def test_a_plan_without_secure_aggregation_begins_no_round(federation, tmp_path):
    plan = small_plan()
    (node,) = with_identities(federation(plan, 1), tmp_path)
    with pytest.raises(WireError, match="the plan has no secure aggregation"):
        masked.begin(Site.of(make_context(1, node)), request(plan))


def test_a_site_that_nobody_introduced_begins_no_round(federation):
    (node,) = federation(PLAN, 1)
    with pytest.raises(DataError, match="the node no identity, peers or memory"):
        masked.begin(Site.of(make_context(1, node)), request())


def test_a_round_that_was_not_begun_is_at_no_stage(sites):
    masked.begin(sites[0], request())
    masked.current(sites[0], request())
    for content in (request(number=2), request(number=PLAN.rounds + 1), request(small_plan())):
        with pytest.raises(WireError):
            masked.current(sites[0], content)
