"""A renewal of the CA that is cut off at any moment: it is gone on with, and nobody is locked out."""

import inspect
import json
import shutil
import sys

import pytest

from common.credentials import is_issued_by, public_pem, read_certificate, read_certificates, read_key
from server import rollover
from server.check import check_server
from server.provision import read_sites, revoke
from server.renewal import renew_server, sites_behind
from server.rollover import NEXT, OLD, is_cut_off, renew_ca, switch
from server.settings import ServerFolder
from tests.helpers.local_sites import follow, make_site, reaches


class CutError(BaseException):
    """In place of the power that goes."""


LINES = [
    first + k
    for function in (rollover.switch, rollover._prepare)
    for lines, first in [inspect.getsourcelines(function)]
    for k in range(1, len(lines))
]


def cut_at(line):
    """Raise before this line of rollover.py is done."""

    def local(frame, event, _):
        if event == "line" and frame.f_lineno == line:
            raise CutError
        return local

    def trace(frame, event, _):
        return local if frame.f_code.co_filename == rollover.__file__ else None

    return trace


def require_new(folder, old):
    """The new CA is whole: its key, its certificate beside the old one, what tells of it, and the sites'."""
    new, before = read_certificates(folder.ca_certificate)
    assert before == old
    assert public_pem(read_key(folder.ca_key)) == public_pem(new.public_key())
    assert public_pem(read_key(folder.ca_key.with_name(OLD))) == public_pem(old.public_key())
    assert json.loads(folder.trust.read_text())["authorities"] == folder.ca_certificate.read_text()
    for name in ("north", "south"):
        assert is_issued_by(read_certificate(folder.certificates / f"{name}.crt"), [new])
    assert not is_cut_off(folder)
    assert not folder.ca_key.with_name(NEXT).exists()
    assert not list(folder.path.glob("renewal*"))


@pytest.mark.slow
def test_a_renewal_that_is_cut_off_anywhere_is_gone_on_with(place, tmp_path):
    server, _, _ = place
    (old,) = read_certificates(server.ca_certificate)
    n_cut = 0
    for line in LINES:
        folder = ServerFolder(tmp_path / f"copy-{line}")
        shutil.copytree(server.path, folder.path)
        sys.settrace(cut_at(line))
        try:
            renew_ca(folder, None)
        except CutError:
            n_cut += 1
        finally:
            sys.settrace(None)
        if is_cut_off(folder):
            told = [f.text for f in check_server(folder) if f.what == "renewal"]
            assert (
                told[0]
                == "that of the CA was cut off; go on with it: pneumofed server renew ca (--ca-key FILE)"
            )
        if (
            len(read_certificates(folder.ca_certificate)) == 1
            or is_cut_off(folder)
            or folder.ca_key.with_name(NEXT).exists()
        ):
            renew_ca(folder, None)
        require_new(folder, old)
        shutil.rmtree(folder.path)
    assert n_cut > 20


def test_a_key_that_is_kept_elsewhere_is_switched_by_who_brings_it(place, tmp_path):
    server, _, _ = place
    (old,) = read_certificates(server.ca_certificate)
    away = tmp_path / "stick" / "ca.key"
    away.parent.mkdir()
    server.ca_key.rename(away)
    rollover._prepare(server, away, rollover.read_authority(server, away))
    assert not switch(server, server.ca_key)  # the server, at its next start, without the stick
    assert read_certificates(server.ca_certificate) == [old]
    assert is_cut_off(server)
    renew_ca(server, away)
    shutil.copytree(away.parent, server.path, dirs_exist_ok=True)
    require_new(server, old)


@pytest.mark.slow
def test_sites_follow_a_renewal_that_was_cut_off(place):
    server, service, sites = place
    line = next(n for n in LINES if "folder.trust, folder.ca_certificate" in source_line(n))
    sys.settrace(cut_at(line))
    try:
        with pytest.raises(CutError):
            renew_ca(server, None)
    finally:
        sys.settrace(None)
    service.follow_certificates()
    assert all(map(reaches, sites.values()))  # as before
    assert renew_ca(server, None) == ["north", "south"]
    service.follow_certificates()
    assert sites_behind(server) == ["north", "south"]
    for site in sites.values():
        follow(site)
    renew_server(server, None)
    service.follow_certificates()
    assert all(map(reaches, sites.values()))


def source_line(number):
    lines, first = inspect.getsourcelines(rollover)
    return lines[number - max(first, 1)]


def test_who_is_admitted_while_a_renewal_is_cut_off_gets_a_certificate_of_the_new_ca(place, tmp_path):
    server, _, _ = place
    rollover._prepare(server, server.ca_key, rollover.read_authority(server, None))
    make_site(tmp_path, "east", server)
    revoke(server, "south")
    make_site(tmp_path / "again", "south", server)
    renew_ca(server, None)
    new, _ = read_certificates(server.ca_certificate)
    keys = {entry.name: entry.public_key for entry in read_sites(server.sites) if entry.revoked is None}
    for name in ("north", "south", "east"):
        certificate = read_certificate(server.certificates / f"{name}.crt")
        assert is_issued_by(certificate, [new])
        assert public_pem(certificate.public_key()).decode() == keys[name]


def test_a_renewal_whose_new_key_is_lost_is_begun_anew_with_the_old_one(place):
    server, _, _ = place
    (old,) = read_certificates(server.ca_certificate)
    rollover._prepare(server, server.ca_key, rollover.read_authority(server, None))
    server.ca_key.with_name(NEXT).unlink()
    renew_ca(server, None)
    require_new(server, old)
