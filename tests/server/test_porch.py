"""Who waits at the door: bounded by address and in all, the oldest first. Sockets of this process alone."""

import asyncio
import resource
import socket

import pytest

from server import porch as module
from server.porch import Porch, raise_descriptors


@pytest.fixture
def porch(monkeypatch):
    monkeypatch.setattr(module, "PER_ADDRESS", 3)
    monkeypatch.setattr(module, "IN_ALL", 5)
    monkeypatch.setattr(module, "YOUNG_S", 0.0)
    porch = Porch.listen_at("127.0.0.1", 0)
    porch.listen()
    yield porch
    porch.close()


def arrive(porch, address="127.0.0.1"):
    """A connection from `address` (the loopback has many), and the server's end of it."""
    near = socket.create_connection(porch.getsockname(), source_address=(address, 0), timeout=2)
    return near, porch.accept()[0]


def run(what):
    async def inside():
        return what()

    return asyncio.run(inside())


def alive(pair):
    pair[0].settimeout(0.1)
    try:
        return pair[0].recv(1) != b""
    except TimeoutError:
        return True


def test_the_oldest_of_an_address_makes_room(porch):
    pairs = run(lambda: [arrive(porch) for _ in range(5)])
    assert [alive(pair) for pair in pairs] == [False, False, True, True, True]
    assert [porch.know(pair[1].fileno()) for pair in pairs] == [False, False, True, True, True]


def test_of_a_crowd_behind_one_address_those_stay_who_came_first(porch, monkeypatch):
    monkeypatch.setattr(module, "YOUNG_S", 60.0)

    def crowd():
        first = [arrive(porch) for _ in range(3)]
        with pytest.raises(BlockingIOError):
            arrive(porch)
        return [*first, arrive(porch, "127.0.0.2")]

    assert all(alive(pair) for pair in run(crowd))


def test_the_oldest_of_all_makes_room_when_they_come_from_everywhere(porch):
    pairs = run(lambda: [arrive(porch, f"127.0.0.{n}") for n in range(1, 8)])
    assert [alive(pair) for pair in pairs] == [False, False, True, True, True, True, True]


def test_who_is_known_and_who_left_do_not_count(porch):
    def visits():
        first = [arrive(porch) for _ in range(2)]
        porch.know(first[0][1].fileno())
        first[1][1].close()
        return [first[0], *(arrive(porch) for _ in range(3))]

    assert all(alive(pair) for pair in run(visits))


def test_a_stranger_who_says_nothing_is_ended(porch, monkeypatch):
    monkeypatch.setattr(module, "HANDSHAKE_S", 0.05)

    async def visit():
        pair = arrive(porch)
        await asyncio.sleep(0.2)
        return pair

    assert not alive(asyncio.run(visit()))


def test_an_address_in_use_is_an_error(porch):
    with pytest.raises(OSError, match="in use"):
        Porch.listen_at(*porch.getsockname()).listen()


def test_descriptors_are_raised_to_what_is_allowed():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, before[1]))
        raise_descriptors()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= min(before[1], module.WANTED_DESCRIPTORS)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
