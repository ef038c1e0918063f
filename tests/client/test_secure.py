"""A site's part in a secure round: each stage once, and nothing that helps a server that lies."""

from dataclasses import replace

import numpy as np
import pytest

from client.governance.peers import Peers
from client.secure import Party, SecureRounds
from common.credentials import make_key
from common.errors import RefusedError, WireError
from common.secure.keys import _SIGNED, Moment, fingerprint_of, identity_of
from common.secure.messages import Objection, Revealed, Roster, Sealed, Signatures, Survivors
from common.secure.ring import FULL, to_ring

NOW = Moment("a" * 64, "run", 1)
NAMES = ("east", "north", "south", "west")
UPDATE = {"w": np.ones(8, np.float32)}
START = {"w": np.zeros(8, np.float32)}


def integers():
    return to_ring(UPDATE, 20.0, 100.0)


class House:
    """Four sites in one process, and the server's part played by the test."""

    def __init__(self, folder, threshold=3, moment=NOW):
        self.moment, self.rounds, self.answered = moment, SecureRounds(), 0
        self.keys = {name: make_key() for name in NAMES}
        self.parties = {}
        for name, key in self.keys.items():
            peers = Peers(folder / name / "peers.json")
            peers.confirm_all({p: fingerprint_of(identity_of(k)) for p, k in self.keys.items() if p != name})
            self.parties[name] = Party(key, name, threshold, peers, folder / name / "run")
        self.begin()

    def begin(self):
        self.open = {name: self.rounds.begin(party, self.moment) for name, party in self.parties.items()}

    @property
    def roster(self):
        return self.roster_of(self.open[name].advert for name in NAMES)

    def roster_of(self, adverts, **weights):
        adverts = tuple(adverts)
        return Roster(adverts=adverts, weights={advert.site: 20.0 for advert in adverts} | weights)

    def shared(self, away=()):
        """Peer -> what came for it, of all sites but `away`."""
        sealed = {name: self.open[name].share(self.roster, 20) for name in NAMES if name not in away}
        return {
            to: Sealed(shares={name: told.shares[to] for name, told in sealed.items() if name != to})
            for to in sealed
        }

    def masked(self, away=()):
        """Up to the masked updates."""
        return {name: self.mask_at(name, came) for name, came in self.shared(away).items()}

    def mask_at(self, name, came, start=START):
        self.open[name].open(came, "c" * 64, self.answered)
        return self.open[name].mask(integers(), start, FULL)

    def signed_under(self, roster, n_patients):
        """All sites' words for each other, in a round that they were introduced to with this roster."""
        sealed = {name: self.open[name].share(roster, n_patients[name]) for name in NAMES}
        for name in NAMES:
            self.mask_at(name, Sealed(shares={n: s.shares[name] for n, s in sealed.items() if n != name}))
        return self.signed(NAMES)

    def signed(self, survivors):
        return Signatures(
            by_site={name: self.open[name].agree(Survivors(sites=tuple(survivors))) for name in survivors}
        )


@pytest.fixture
def house(tmp_path):
    return House(tmp_path)


def test_of_each_site_one_share_is_revealed_and_never_both(house):
    house.masked(away=["west"])
    words = house.signed(["east", "north", "south"])
    revealed = house.open["east"].reveal(words)
    assert isinstance(revealed, Revealed)
    assert sorted(revealed.shares) == ["east", "north", "south"]
    with pytest.raises(WireError, match="at another stage"):
        house.open["east"].reveal(words)
    with pytest.raises(WireError, match="at another stage"):
        house.open["east"].agree(Survivors(sites=("east", "north", "south")))


def test_a_site_that_shared_and_went_away_has_its_mask_key_revealed_and_not_its_seed(house):
    house.masked()
    held = dict(house.open["east"]._held)
    told = house.open["east"].reveal(house.signed(["east", "north", "south"])).shares
    assert told["west"] == held["west"][0].hex()
    assert told["north"] == held["north"][1].hex()


def test_masks_hide_the_update_and_are_new_each_time(house):
    one = house.masked()
    house.begin()
    two = house.masked()
    plain = integers()
    for name in NAMES:
        assert not np.any(one[name] == plain)
        assert not np.any(one[name] == two[name])


def test_a_stage_comes_once_and_in_its_turn(house):
    begun = house.open["north"]
    for early in (
        lambda: begun.open(Sealed(shares={}), "c", 0),
        lambda: begun.mask(integers(), START, FULL),
        lambda: begun.agree(Survivors(sites=NAMES)),
        lambda: begun.reveal(Signatures(by_site={})),
    ):
        with pytest.raises(WireError, match="stage"):
            early()
    house.shared()
    with pytest.raises(WireError, match="at another stage"):
        begun.share(house.roster, 20)


def test_a_hospital_that_nobody_confirmed_is_not_shared_with(house):
    house.parties["north"].peers.revoke("west")
    told = house.open["north"].share(house.roster, 20)
    assert told == Sealed(shares={}, refused={"west": Objection.UNKNOWN})
    with pytest.raises(WireError, match="at another stage"):
        house.open["north"].agree(Survivors(sites=NAMES))
    with pytest.raises(WireError, match="at another stage"):
        house.open["north"].open(Sealed(shares={}), "c", 0)  # before it trains, and pays for it under privacy


def test_a_server_that_invents_a_hospital_under_a_known_name_is_found_out(house):
    """It signs with a key of its own."""
    invented = SecureRounds().begin(replace(house.parties["west"], key=make_key()), NOW)
    roster = house.roster_of((*house.roster.adverts[:3], invented.advert))
    told = house.open["north"].share(roster, 20)
    assert told == Sealed(shares={}, refused={"west": Objection.OTHER_KEY})


def test_keys_of_another_round_are_not_taken(house, tmp_path):
    old = SecureRounds().begin(house.parties["west"], replace(NOW, round=2))
    told = house.open["north"].share(house.roster_of((*house.roster.adverts[:3], old.advert)), 20)
    assert told == Sealed(shares={}, refused={"west": Objection.UNSIGNED})


def test_a_list_without_this_site_or_with_another_of_its_keys_is_refused(house):
    for adverts in (
        house.roster.adverts[:1] + house.roster.adverts[2:],
        (*house.roster.adverts, house.roster.adverts[0]),
        (
            SecureRounds().begin(house.parties["north"], NOW).advert,
            *house.roster.adverts[:1],
            *house.roster.adverts[2:],
        ),
    ):
        with pytest.raises(WireError, match="is not whole, or has others for this site"):
            house.open["north"].share(house.roster_of(adverts), 20)
        with pytest.raises(WireError, match="at another stage"):
            house.open["north"].open(Sealed(shares={}), "c", 0)


@pytest.mark.parametrize(("threshold", "n"), [(2, 4), (3, 2)])
def test_a_threshold_that_is_not_most_of_the_sites_is_refused(tmp_path, threshold, n):
    house = House(tmp_path, threshold)
    adverts = house.roster.adverts[:n]
    with pytest.raises(RefusedError, match="is not most of them"):
        house.open["north"].share(house.roster_of(tuple(adverts)), 20)


def test_one_folder_on_two_machines_is_noticed(house):
    twin = SecureRounds().begin(replace(house.parties["west"], key=house.keys["south"]), NOW)
    house.parties["north"].peers.confirm("west", twin.advert.fingerprint)
    with pytest.raises(RefusedError, match="two sites have one identity"):
        house.open["north"].share(house.roster_of((*house.roster.adverts[:3], twin.advert)), 20)


def signed_anew(house, advert):
    """By the key of the site that it names."""
    shown = (advert.identity, advert.mask, advert.seal, advert.commitment)
    signature = house.keys[advert.site].sign(NOW.context("keys", advert.site, *shown), _SIGNED).hex()
    return replace(advert, signature=signature)


def test_whoever_claims_another_s_identity_is_refused_alone(house):
    """It cannot sign for it; taken for a copied folder, it would end everybody's round."""
    south, west = house.open["south"].advert, house.open["west"].advert
    odd = signed_anew(house, replace(west, identity=south.identity))
    told = house.open["north"].share(house.roster_of((*house.roster.adverts[:3], odd)), 20)
    assert told == Sealed(shares={}, refused={"west": Objection.OTHER_KEY})


@pytest.mark.parametrize("which", ["mask", "seal"])
@pytest.mark.parametrize("public", ["00" * 32, "ab", "", "zz" * 32])
def test_whoever_shows_keys_that_are_none_is_refused_alone(house, which, public):
    odd = signed_anew(house, replace(house.open["west"].advert, **{which: public}))
    told = house.open["north"].share(house.roster_of((*house.roster.adverts[:3], odd)), 20)
    assert told == Sealed(shares={}, refused={"west": Objection.UNUSABLE})


@pytest.mark.parametrize("when", ["mask", "agree", "reveal"])
def test_a_peer_that_is_revoked_within_a_round_gets_nothing_more(house, when):
    north, came = house.open["north"], house.shared()
    north.open(came["north"], "c" * 64, 0)
    if when != "mask":
        north.mask(integers(), START, FULL)
        for name in ("east", "south", "west"):
            house.mask_at(name, came[name])
    words = house.signed(NAMES) if when == "reveal" else None
    house.parties["north"].peers.revoke("west")
    act = {
        "mask": lambda: north.mask(integers(), START, FULL),
        "agree": lambda: north.agree(Survivors(sites=NAMES)),
        "reveal": lambda: north.reveal(words),
    }[when]
    with pytest.raises(RefusedError, match="west is not confirmed as a peer"):
        act()


@pytest.mark.parametrize(
    ("weights", "n"),
    [
        ({"east": 20.0, "north": 1e-6, "south": 1e-6, "west": 1e-6}, 20),
        ({"north": 19.0}, 20),
        ({"north": 21.0}, 20),
    ],
)
def test_a_server_that_lets_one_site_count_alone_gets_nothing(house, weights, n):
    with pytest.raises(RefusedError, match="the server counts this site as"):
        house.open["north"].share(house.roster_of(house.roster.adverts, **weights), n)


def test_a_site_may_count_as_the_most_that_any_does(house):
    house.open["north"].share(house.roster, 500)


def test_weights_for_others_than_take_part_are_refused(house):
    roster = house.roster_of(house.roster.adverts, nowhere=1.0)
    with pytest.raises(RefusedError, match="the server counts this site as"):
        house.open["north"].share(roster, 20)


def test_a_server_that_shows_sites_different_models_gets_nothing(house):
    """With a model that teaches the others nothing, the sum would be one site's update."""
    sealed = house.shared()
    for name in NAMES:
        start = START if name == "east" else {"w": np.full(8, 9.0, np.float32)}
        house.mask_at(name, sealed[name], start)
    words = house.signed(NAMES)
    with pytest.raises(WireError, match="is said to have signed"):
        house.open["east"].reveal(words)


def test_a_server_that_names_sites_different_bounds_gets_nothing(house):
    """With bounds under which the others' integers are zeros, the sum would be one site's."""
    sealed = {}
    for name in NAMES:
        bounds = {"w": 1.0 if name == "east" else 1e6}
        sealed[name] = house.open[name].share(replace(house.roster, bounds=bounds), 20)
    for name in NAMES:
        house.mask_at(name, Sealed(shares={n: s.shares[name] for n, s in sealed.items() if n != name}))
    words = house.signed(NAMES)
    with pytest.raises(WireError, match="is said to have signed"):
        house.open["east"].reveal(words)


def test_a_share_that_was_exchanged_is_noticed(house):
    came = house.shared()["north"].shares
    with pytest.raises(WireError, match="the share that came in the name of east is not from it"):
        house.open["north"].open(Sealed(shares={**came, "east": came["south"]}), "c", 0)


def test_too_few_shares_are_too_few(house):
    came = house.shared()["north"].shares
    with pytest.raises(RefusedError, match="2 sites shared their secrets, the plan's threshold is 3"):
        house.open["north"].open(Sealed(shares={"east": came["east"]}), "c", 0)


@pytest.mark.parametrize(
    ("survivors", "said"),
    [
        (("east", "north"), "2 sites sent their updates"),
        (("east", "south", "west"), "with this one"),
        (("north", "east", "south"), "with this one"),
        (("east", "north", "nowhere"), "with this one"),
    ],
)
def test_a_list_of_survivors_that_cannot_be_is_refused(house, survivors, said):
    house.masked()
    with pytest.raises((RefusedError, WireError), match=said):
        house.open["north"].agree(Survivors(sites=survivors))


def test_a_server_that_tells_sites_of_different_survivors_gets_nothing(house):
    """It would have the seed of one and the mask key of it too: from the halves of the federation."""
    house.masked()
    some = {n: house.open[n].agree(Survivors(sites=("east", "north", "south"))) for n in ("east", "north")}
    others = {n: house.open[n].agree(Survivors(sites=NAMES)) for n in ("south", "west")}
    with pytest.raises(WireError, match="south is said to have signed"):
        house.open["east"].reveal(Signatures(by_site={**some, "south": others["south"]}))
    with pytest.raises(RefusedError, match="2 sites agreed on the survivors"):
        house.open["north"].reveal(Signatures(by_site=some))


def test_a_round_is_summed_again_over_the_same_sites_alone(house):
    """The difference of two sums would be a single site's update. The record is on the disk."""
    house.masked()
    house.open["north"].reveal(house.signed(NAMES))
    house.begin()
    house.masked()
    with pytest.raises(RefusedError, match="was summed before, over other sites, weights, bounds"):
        house.open["north"].agree(Survivors(sites=("east", "north", "south")))
    house.begin()
    house.masked()
    house.open["north"].reveal(house.signed(NAMES))


def test_a_round_is_summed_again_under_the_same_bounds_alone(house):
    """Bounds a little smaller make the largest update alone smaller: the difference would show it."""

    def signed(bound):
        house.begin()
        return house.signed_under(replace(house.roster, bounds={"w": bound}), dict.fromkeys(NAMES, 20))

    for _ in range(2):
        words = signed(1.0)
        house.open["north"].reveal(words)
    with pytest.raises(RefusedError, match="was summed before, over other sites, weights, bounds"):
        signed(0.99)


def test_a_round_is_summed_again_with_the_same_weights_alone(house):
    """Were the most that any counts as another one, the difference would be the largest hospital's update."""
    n_patients = {**dict.fromkeys(NAMES, 20), "east": 90}

    def signed(most):
        house.begin()
        roster = house.roster_of((house.open[name].advert for name in NAMES), east=most)
        return house.signed_under(roster, n_patients)

    for _ in range(2):
        words = signed(60.0)
        house.open["north"].reveal(words)
    with pytest.raises(RefusedError, match="was summed before, over other sites, weights, bounds"):
        signed(45.0)


def test_a_server_that_has_a_site_forget_what_it_owes_gets_no_other_sum(house):
    """Summed with what one site owes and without, the difference is that: of large bounds, its last update."""
    house.moment = replace(NOW, round=3)
    house.begin()
    house.answered = 2
    house.masked()
    house.open["north"].reveal(house.signed(NAMES))
    house.begin()
    house.answered = 1
    house.masked()
    with pytest.raises(RefusedError, match="patients or updates before it"):
        house.open["north"].agree(Survivors(sites=NAMES))
    house.moment = replace(NOW, round=4)
    house.begin()
    came = house.shared()["north"]
    with pytest.raises(RefusedError, match="helped to sum that of round 3"):
        house.open["north"].open(came, "c" * 64, 2)
    house.open["north"].open(came, "c" * 64, 3)


@pytest.mark.parametrize(
    ("survivors", "answered", "bounds", "carries"),
    [
        (NAMES, 1, {"w": 1.0}, True),
        (NAMES[:3], 1, {"w": 1.0}, False),
        (NAMES, 2, {"w": 1.0}, False),
        (NAMES, 1, None, False),
    ],
)
def test_what_a_site_owes_goes_with_the_sites_that_were_summed_last(
    house, survivors, answered, bounds, carries
):
    """Among others it would be the sum, after rounds of bounds so large that nothing was told."""
    house.masked(away=[name for name in NAMES if name not in survivors])
    house.open["north"].reveal(house.signed(survivors))
    house.moment = replace(NOW, round=3)
    house.begin()
    roster = replace(house.roster, bounds=bounds)
    sealed = {name: house.open[name].share(roster, 20) for name in NAMES}
    came = Sealed(shares={n: s.shares["north"] for n, s in sealed.items() if n != "north"})
    house.open["north"].open(came, "c" * 64, answered)
    assert house.open["north"].carries == carries


def test_a_round_is_summed_again_over_the_same_patients_alone(house):
    house.masked()
    house.open["north"].reveal(house.signed(NAMES))
    house.begin()
    came = house.shared()
    house.open["north"].open(came["north"], "d" * 64, 0)
    house.open["north"].mask(integers(), START, FULL)
    with pytest.raises(RefusedError, match="patients or updates before it"):
        house.open["north"].agree(Survivors(sites=NAMES))


def test_a_site_rounds_as_its_own_key_says_and_the_same_when_it_is_asked_again(house):
    first = house.open["north"].rounding().random(8)
    house.begin()
    np.testing.assert_array_equal(house.open["north"].rounding().random(8), first)
    others = (
        replace(house.parties["north"], key=house.keys["south"]),
        replace(house.parties["north"], site="south"),
    )
    for begun in (
        *(house.rounds.begin(party, NOW) for party in others),
        house.rounds.begin(house.parties["north"], replace(NOW, round=2)),
    ):
        assert not np.any(begun.rounding().random(8) == first)


def test_a_record_that_cannot_be_read_helps_with_nothing(house):
    house.masked()
    folder = house.parties["north"].folder
    folder.mkdir(parents=True)
    (folder / "revealed.json").write_text("{")
    with pytest.raises(RefusedError, match="cannot be read"):
        house.open["north"].agree(Survivors(sites=NAMES))


def test_a_site_that_was_restarted_is_out_of_the_round(house):
    with pytest.raises(WireError, match="it was restarted"):
        SecureRounds().current("north", NOW)
    with pytest.raises(WireError, match="no keys for round 2"):
        house.rounds.current("north", replace(NOW, round=2))
    assert house.rounds.current("north", NOW) is house.open["north"]
