"""A dictionary, whatever is in it; the large lie on the disk, and nothing is left of them."""

import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.spool import SMALL, Spool

CONTENTS = st.dictionaries(
    st.text(max_size=3),
    st.one_of(st.binary(max_size=9), st.binary(min_size=1, max_size=3).map(lambda b: b * SMALL)),
)


@given(CONTENTS, st.data())
def test_it_is_a_dictionary(contents, data):
    spool = Spool(None)
    for key, content in contents.items():
        spool[key] = content
    assert dict(spool) == contents
    for key in data.draw(st.lists(st.sampled_from(sorted(contents)), unique=True)) if contents else []:
        del spool[key]
        del contents[key]
        assert key not in spool
    assert dict(spool.items()) == contents
    assert len(spool) == len(contents)
    spool.clear()
    assert not spool


@pytest.mark.parametrize("n", [SMALL, SMALL + 1, 3 * SMALL - 1])
def test_what_is_more_than_one_call_can_take_is_written_and_read_in_several(monkeypatch, n):
    monkeypatch.setattr("server.spool.AT_ONCE", SMALL // 2)
    spool, contents = Spool(None), {key: os.urandom(n) for key in "ab"}
    spool.update(contents)
    assert dict(spool) == contents


def test_the_large_are_on_the_disk_without_a_name(tmp_path):
    spool = Spool(tmp_path)
    spool["small"] = b"x"
    assert spool._file is None
    spool["large"] = b"y" * SMALL
    assert os.fstat(spool._file.fileno()).st_size == SMALL
    assert os.fstat(spool._file.fileno()).st_nlink == 0
    assert list(tmp_path.iterdir()) == []
    file = spool._file
    spool.clear()
    assert file.closed


def test_a_full_disk_is_said_and_keeps_nothing(tmp_path, monkeypatch):
    spool = Spool(tmp_path)
    spool["a"] = b"a" * SMALL

    class Full:
        def __init__(self, file):
            self.file, self.left = file, 10

        def write(self, content):
            self.left -= (n := min(len(content), self.left))
            return self.file.write(content[:n]) if n else _refuse()

        def __getattr__(self, name):
            return getattr(self.file, name)

    spool._file = Full(spool._file)
    with pytest.raises(OSError, match="No space"):
        spool["b"] = b"b" * SMALL
    assert list(spool) == ["a"]
    assert os.fstat(spool._file.fileno()).st_size == SMALL
    monkeypatch.setattr("tempfile.TemporaryFile", _refuse)
    with pytest.raises(OSError, match="No space"):
        Spool(tmp_path)["c"] = b"c" * SMALL


def _refuse(**_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
