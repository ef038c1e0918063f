"""A patient's CT slices -> volumes, and which of them to take.

A series is not a volume: it may hold two kernels slice by slice, two breaths, passes over one place, a stray
reformat. Slices of one volume share series, study, frame of reference, direction and kernel. What only
several passes over one place differ in (acquisition, temporal position, echo, thickness) parts them where
their ranges overlap: a scan step by step has an acquisition for each place.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from collections.abc import Sequence as Seq
from dataclasses import replace

import numpy as np

from client.imaging.dicom import PLACED_BY, WITHOUT_GEOMETRY, Header
from client.imaging.facts import body_part
from client.imaging.facts.image_kind import Kind

Volume = list[Header]
AXIAL = np.cos(np.radians(40.0))
"""The least part of an axial slice's normal that points to the head: gantries tilt up to 30 degrees."""
PARALLEL = np.cos(np.radians(1.0))
ENOUGH = 0.5
"""A volume with fewer places than this share of the largest is part of a scan: it is not taken for being
original."""
LEAST_IN_A_PASS = 5
"""Slices with one time, of a pass that is one."""
PASSES: tuple[Callable[[Header], Hashable], ...] = (
    lambda h: h.stack.acquisition,
    lambda h: h.stack.moment,
    lambda h: h.stack.echo,
    lambda h: h.thickness,
)


def is_axial(header: Header) -> bool:
    """Also where nothing says its direction."""
    return header.stack.normal is None or header.stack.normal[2] >= AXIAL


def volumes(slices: Iterable[Header]) -> list[Volume]:
    """In an order that depends on the slices alone."""
    alike: dict[Hashable, Volume] = defaultdict(list)
    for h in sorted(slices, key=lambda h: h.uid):
        alike[h.study, h.series, h.stack.frame_of_reference, h.stack.kernel].append(h)
    parted = [_placed(volume) for group in alike.values() for volume in _by_direction(group)]
    for key in PASSES:
        parted = [one for volume in parted for one in _by_pass(volume, key)]
    return [one for volume in parted for one in _by_time(volume)]


def _by_direction(group: Volume) -> list[Volume]:
    """Parallel slices belong together; those without a direction by themselves."""
    parts: list[Volume] = []
    for h in group:
        own = h.stack.normal
        for part in parts:
            other = part[0].stack.normal
            if own is other is None or (own and other and np.dot(own, other) >= PARALLEL):
                part.append(h)
                break
        else:
            parts.append([h])
    return parts


def _placed(volume: Volume) -> Volume:
    """With places by the next rule that all slices have, where the geometry puts all at one place; unless
    that rule says so too: a scanner that waits for the contrast agent takes one place again and again."""
    if len(volume) < 2 or len({round(h.position or 0.0, 2) for h in volume}) > 1:
        return volume
    for how, place in WITHOUT_GEOMETRY.items():
        places = [position for h in volume if (position := place(h)) is not None]
        if len(places) == len(volume):
            pairs = zip(volume, places, strict=True)
            several = len(set(places)) > 1
            return [replace(h, position=p, placed_by=how) for h, p in pairs] if several else volume
    return volume


def _by_pass(volume: Volume, key: Callable[[Header], Hashable]) -> list[Volume]:
    """Parted by `key` if two of the parts overlap in space. Where they do so by their ends alone, those that
    follow one another stay together: of a scan step by step one step may begin before the last one's end."""
    parts: dict[Hashable, Volume] = defaultdict(list)
    for h in volume:
        parts[key(h)].append(h)
    left = sorted(parts.values(), key=lambda part: (_range(part), part[0].uid))
    overlap = _overlap(left)
    if overlap == 0.0:
        return [volume]
    if overlap > ENOUGH:
        return list(parts.values())
    chains: list[Volume] = []
    while left:
        chain = _longest_chain(left)
        chains.append([h for part in chain for h in part])
        taken = set(map(id, chain))
        left = [part for part in left if id(part) not in taken]
    return chains


def _overlap(parts: list[Volume]) -> float:
    """The largest share of a part, of those in order of their beginnings, that lies in one before it."""
    most, end = 0.0, -np.inf
    for low, high in map(_range, parts):
        if low < end:
            most = max(most, (min(end, high) - low) / (high - low) if high > low else 1.0)
        end = max(end, high)
    return most


def _by_time(volume: Volume) -> list[Volume]:
    """Parted by the time where a few times have a whole pass each, over the same place: two phases of a
    contrast agent in one series. Scans step by step, or slice by slice, have many times with few slices."""
    parts: dict[Hashable, Volume] = defaultdict(list)
    for h in volume:
        parts[h.time].append(h)
    ranges = [_range(part) for part in parts.values()]
    shared = min(high for _, high in ranges) - max(low for low, _ in ranges)
    whole = all(shared > ENOUGH * (high - low) and high > low for low, high in ranges)
    several = len(parts) > 1 and min(map(len, parts.values())) >= LEAST_IN_A_PASS
    regular = several and all(map(_is_regular, parts.values()))
    return list(parts.values()) if several and whole and regular else [volume]


def _is_regular(volume: Volume) -> bool:
    """Whether its slices are as far apart as those of one pass: times of another thing part at random."""
    distances = np.diff(sorted(h.position or 0.0 for h in volume))
    return bool(distances.min() > 0 and distances.max() <= 1.5 * np.median(distances))


def _longest_chain(parts: list[Volume]) -> list[Volume]:
    """Of parts in order of their beginnings, those with the most slices of which each begins where the one
    before has ended (weighted interval scheduling)."""
    ranges = [_range(part) for part in parts]
    most: list[tuple[int, int]] = []  # slices up to and with a part, and the part before it (-1: none)
    for k, (low, _) in enumerate(ranges):
        before = [j for j in range(k) if ranges[j][1] <= low]
        best = max(before, key=lambda j: (most[j][0], j), default=-1)
        most.append((len(parts[k]) + (most[best][0] if best >= 0 else 0), best))
    k, chain = max(range(len(parts)), key=lambda j: most[j][0]), []
    while k >= 0:
        chain.append(parts[k])
        k = most[k][1]
    return chain[::-1]


def _range(volume: Volume) -> tuple[float, float]:
    places = [h.position or 0.0 for h in volume]
    return min(places), max(places)


def score(candidates: Seq[Volume]) -> Callable[[Volume], tuple[bool, bool, int, float, str]]:
    """What makes a volume the better one: it is told to be of the chest; it is original, with ENOUGH places;
    it has more places; thinner slices; the newest UID."""
    largest = max(map(_n_places, candidates))

    def worth(volume: Volume) -> tuple[bool, bool, int, float, str]:
        thickness = [h.thickness for h in volume if h.thickness is not None]
        n = _n_places(volume)
        return (
            any(h.body in (body_part.CHEST, body_part.UNSURE) for h in volume),
            n >= ENOUGH * largest and all(h.kind == Kind.ORIGINAL for h in volume),
            n,
            -float(np.median(thickness)) if thickness else -np.inf,
            max(h.series for h in volume),
        )

    return worth


def _n_places(volume: Volume) -> int:
    return len({h.position for h in volume})


def placed_alike(volume: Volume) -> Volume:
    """Those that are placed by the surest rule: millimetres of different origins cannot be compared."""
    surest = min((h.placed_by for h in volume), key=PLACED_BY.index)
    return [h for h in volume if h.placed_by == surest]
