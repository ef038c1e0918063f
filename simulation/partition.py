"""One data set -> several hospitals, by patient: equal shares, or classes skewed by a Dirichlet
distribution."""

from collections import defaultdict
from collections.abc import Sequence as Seq

import numpy as np
from numpy.typing import NDArray

from client.imaging.sequence import Sequence
from common.errors import DataError

MAX_TRIES = 1000


def deal_out(
    sequences: Seq[Sequence],
    n_sites: int,
    alpha: float | None,
    rng: np.random.Generator,
    min_patients: int,
    sizes: float | None = None,
) -> list[list[Sequence]]:
    """Deal the sequences to `n_sites`; a patient's stay together.

    Args:
        alpha: for each class, the sites' shares are drawn from Dirichlet(alpha) (Hsu et al., 2019): 0.1 is
        very uneven,
            100 nearly equal. None deals each class in equal shares. A patient is positive if any sequence is.
        sizes: the sites' sizes are drawn from Dirichlet(sizes), the same for all classes. None makes them
        equal.
        min_patients: a deal that leaves a site with fewer patients, or without one of the classes, is drawn
        again.

    Raises:
        DataError: no deal of MAX_TRIES satisfies every site.
    """
    by_patient: dict[str, list[Sequence]] = defaultdict(list)
    for sequence in sequences:
        by_patient[sequence.patient].append(sequence)
    patients = sorted(by_patient)
    positive, negative = (
        np.array([any((s.labels[0] == 1) == value for s in by_patient[p]) for p in patients])
        for value in (True, False)
    )  # both of a patient who changes
    for _ in range(MAX_TRIES):
        site = _draw(positive, n_sites, alpha, sizes, rng)
        if all(_usable(positive[site == k], negative[site == k], min_patients) for k in range(n_sites)):
            return [
                [s for p, at in zip(patients, site, strict=True) if at == k for s in by_patient[p]]
                for k in range(n_sites)
            ]
    raise DataError(
        f"found no way to deal {len(patients)} patients to {n_sites} sites with at least {min_patients} "
        "patients of both "
        "classes each; use fewer sites, a larger data.partition.alpha or a smaller min_patients"
    )


def _draw(
    positive: NDArray[np.bool_],
    n_sites: int,
    alpha: float | None,
    sizes: float | None,
    rng: np.random.Generator,
) -> NDArray[np.intp]:
    site = np.zeros(len(positive), np.intp)
    size = np.full(n_sites, 1.0 / n_sites) if sizes is None else rng.dirichlet(np.full(n_sites, sizes))
    for value in (False, True):
        members = rng.permutation(np.flatnonzero(positive == value))
        shares = size if alpha is None else size * rng.dirichlet(np.full(n_sites, alpha))
        shares = shares / shares.sum()
        borders = np.rint(np.cumsum(shares)[:-1] * len(members)).astype(int)
        for k, chunk in enumerate(np.split(members, borders)):
            site[chunk] = k
    return site


def _usable(positive: NDArray[np.bool_], negative: NDArray[np.bool_], min_patients: int) -> bool:
    return len(positive) >= min_patients and bool(positive.any() and negative.any())
