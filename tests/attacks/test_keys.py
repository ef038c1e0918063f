"""Kind 6: copied folders, sites that come back, and ledgers that were lost: noticed by name, and cured as
documented."""

import shutil

import numpy as np
import pytest
from flwr.app import Message, MetricRecord, RecordDict

from client.check import check_site
from client.governance.ledger import Ledger, Purpose
from client.governance.policy import Policy
from client.provision import join, new_key
from client.settings import SiteFolder
from common import wire
from common.credentials import read_key
from common.errors import ConfigError, LinkError, RefusedError
from common.plan import Privacy
from server import door
from server.check import check_server
from server.provision import admit, revoke
from server.roster import Deployment, Roster
from tests.helpers.gates import Site
from tests.helpers.local_sites import honest, link_of, make_server, make_site
from tests.helpers.plans import small_plan

PATIENTS = [f"{i:032x}" for i in range(20)]
PLAN = small_plan(rounds=6, privacy=Privacy(epsilon=8.0, delta=1e-3, steps=4), evaluation={"every": 0})


@pytest.fixture
def place(tmp_path):
    folder, service = make_server(tmp_path)
    yield tmp_path, folder, service
    service.stop()


# A folder on two machines


def test_a_copied_folder_is_named_on_both_sides_and_the_first_goes_on(place, caplog):
    path, folder, _ = place
    site = make_site(path, "north", folder)
    first = link_of(site)
    first.connect()
    shutil.copytree(site.path, path / "copy")
    second = link_of(SiteFolder(path / "copy"))
    with pytest.raises(LinkError, match="a copy of this folder, uses this site's keys; stop one of the two"):
        second.connect()
    assert "north: two machines use its keys; was the site's folder copied?" in caplog.text
    assert first.receive(int) is None
    first.close()


def test_a_site_that_has_moved_is_let_in_when_the_old_machine_was_silent_for_a_while(place, monkeypatch):
    path, folder, _ = place
    site = make_site(path, "north", folder)
    old = link_of(site)
    old.connect()
    old.close()
    shutil.copytree(site.path, path / "new")
    monkeypatch.setattr(door, "MOVES_IN_S", 0.0)
    new = link_of(SiteFolder(path / "new"))
    new.connect()
    assert new.receive(int) is None
    new.close()


def test_a_cloned_machine_is_named_on_both_sides_and_the_first_goes_on(place, caplog):
    """Of the same machine ID, address and name: what tells them apart is that they speak by turns."""
    path, folder, _ = place
    site = make_site(path, "north", folder)
    first, second = link_of(site), link_of(site)
    refused = []
    for _ in range(6):
        for link in (first, second):
            try:
                link.connect()  # each ends the other's session: it takes it for its predecessor's
                link.receive(int)
            except LinkError as e:
                refused.append((link, str(e)))
    named = [link for link, why in refused if "uses this site's keys; stop one of the two" in why]
    assert named
    assert set(named) == {second}
    assert "north: two agents use its keys at once; was its machine cloned?" in caplog.text
    first.connect()
    assert first.receive(int) is None
    first.close()


def test_the_clone_is_let_in_when_the_first_has_been_silent_for_a_while():
    starts = door.Starts()
    turns = [starts.intrudes(one, t + s) for t in range(10) for one, s in (("first", 0.0), ("clone", 0.5))]
    assert any(turns)
    assert not any(turns[::2])
    assert starts.intrudes("clone", 20.0)
    assert not starts.intrudes("clone", 20.0 + door.MOVES_IN_S)


def test_an_agent_that_crashes_again_and_again_is_no_clone():
    starts = door.Starts()
    assert not any(starts.intrudes(f"start-{k}", k + step / 10) for k in range(200) for step in range(5))
    assert len(starts.heard) <= door.MOVES_IN_S + 1


@pytest.mark.slow
def test_an_agent_may_start_as_often_as_it_likes(place, caplog):
    path, folder, _ = place
    site = make_site(path, "north", folder)
    for _ in range(20):
        link = link_of(site)
        link.connect()
        assert link.receive(int) is None
        link.close()
    assert "cloned" not in caplog.text


# A site with another key


def test_a_site_comes_back_with_a_new_key_and_keeps_what_is_its_own(place):
    path, folder, service = place
    site = make_site(path, "north", folder)
    before = {file: file.read_bytes() for file in site.path.iterdir() if file.is_file()}
    new_key(site)
    link = link_of(site)  # the old key serves until the certificate is here
    link.connect()
    link.close()
    revoke(folder, "north")
    join(site, admit(folder, "north", site.request))
    changed = {
        file.name for file, content in before.items() if not file.exists() or file.read_bytes() != content
    }
    assert changed == {"site.key", "site.crt", "request.pem"} & {file.name for file in before}
    assert not site.next_key.exists()
    link = link_of(site)
    link.connect()
    assert service.site_of(link.node) == "north"
    link.close()
    assert any(f.what == "north" and "came back with another key" in f.text for f in check_server(folder))


def test_the_certificate_of_neither_key_is_refused(place):
    path, folder, _ = place
    site, other = (make_site(path, name, folder) for name in ("north", "south"))
    new_key(site)
    with pytest.raises(ConfigError, match="for another key than this site's"):
        join(site, other.certificate)
    assert read_key(site.key)


def test_in_a_run_the_new_key_takes_the_place_of_the_revoked_one(site):
    names = {1: None, 2: "north"}
    roster = Roster(Deployment(site_of=names.get))
    roster.names[1] = "north"
    request = Message(RecordDict(), 2, "query")
    plan = small_plan()
    roster._admit(2, honest("north", request), plan)
    assert roster.names == {2: "north"}
    names[1] = "north"
    roster.names[1] = "north"
    del roster.names[2]
    with pytest.raises(Exception, match="two sites call themselves north"):
        roster._admit(2, honest("north", request), plan)


# A ledger that has forgotten


@pytest.fixture
def private(tmp_path, site):
    """A site that has trained two rounds of a private plan, as its gate saw it."""
    trained = Site(tmp_path / "private", PLAN)
    trained.policy = Policy(min_patients=4, epsilon=8.0, delta=1e-3)
    trained.ledger = Ledger(trained.folder / "ledger.sqlite")
    for number in (1, 2):
        train(trained, number)
    return trained


def train(site, number, answered=0):
    admitted = site.admit("train", number, k=number, **{wire.ANSWERED: answered})
    site.ledger.reserve(PATIENTS, Purpose(PLAN.sha256, "r1", number), (1.0, 0.1, 4), None)
    start = wire.Schema(admitted.schema.shapes)
    arrays = wire.pack({name: np.zeros(shape, np.float32) for name, shape in start.shapes.items()})
    numbers = {wire.N_EXAMPLES: 1, wire.LOSS: np.nan, wire.STEPS: 4, wire.SECONDS: np.nan}
    content = RecordDict({wire.ARRAYS: arrays, wire.METRICS: MetricRecord(numbers)})
    return site.gate.release(admitted, Message(content, reply_to=admitted.request), site.policy)


def test_a_whole_ledger_goes_on(private):
    assert not train(private, 3, answered=2).has_error()
    private.restart()
    assert not train(private, 4, answered=3).has_error()
    assert private.events().count("ledger") == 4


def lose(path):
    path.unlink()


def empty(path):
    path.write_bytes(b"")


def roll_back(path):
    path.unlink()
    Ledger(path).reserve(PATIENTS, Purpose(PLAN.sha256, "r1", 1), (1.0, 0.1, 4), None)


def write_anew(path):
    path.unlink()
    for number in (1, 2, 3):
        Ledger(path).reserve(PATIENTS, Purpose(PLAN.sha256, "r1", number), (9.0, 0.01, 1), None)


@pytest.mark.parametrize("fault", [lose, empty, roll_back, write_anew])
@pytest.mark.parametrize("restarted", [False, True])
def test_a_ledger_that_knows_less_than_the_audit_log_trains_nothing(private, fault, restarted, caplog):
    fault(private.folder / "ledger.sqlite")
    if restarted:
        private.restart()
    with pytest.raises(RefusedError, match="privacy ledger is lost, or older"):
        private.admit("train", 3, k=3)
    assert "bring the newest copy" in caplog.text


def test_the_newest_copy_cures_it(private):
    ledger = private.folder / "ledger.sqlite"
    copy = ledger.read_bytes()
    lose(ledger)
    with pytest.raises(RefusedError):
        private.admit("train", 3, k=3)
    ledger.write_bytes(copy)
    assert not train(private, 3).has_error()


def test_without_ledger_and_audit_log_the_server_still_knows(private):
    """The whole machine was put back to before the run."""
    (private.folder / "audit.log").unlink()
    lose(private.folder / "ledger.sqlite")
    private.restart()
    with pytest.raises(RefusedError, match="privacy ledger is lost, or older"):
        private.admit("train", 3, k=3, **{wire.ANSWERED: 2})


def test_the_check_names_it(place):
    path, folder, _ = place
    site = make_site(path, "north", folder)
    Ledger(site.ledger).reserve(PATIENTS, Purpose("p" * 64, "r1", 1), (1.0, 0.1, 4), None)
    from client.governance.witness import Witness
    from common.audit import AuditLog

    Witness(site.ledger, AuditLog(site.audit)).note()
    assert [f.outcome for f in check_site(site) if f.what == "ledger"] == ["ok"]
    site.ledger.unlink()
    (finding,) = (f for f in check_site(site) if f.what == "ledger")
    assert finding.outcome == "fails"
    assert "0 entries, the audit log has seen 1" in finding.text
