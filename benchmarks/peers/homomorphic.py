"""A round's sums under homomorphic encryption, as NVIDIA FLARE makes them (TenSEAL's CKKS), without FLARE.

    uv run --no-project --with tenseal==0.3.18 --with numpy python benchmarks/peers/homomorphic.py --json
    -> {"bytes_up", "bytes_down", "site_cpu_s", "server_cpu_s", "largest_error", …}

Bytes and seconds of CPU (all threads) of a site: weigh, encrypt and write an update, read and decrypt the
sum; and of the server: read the updates and add them as they come, write the sum. Parameters are FLARE's
defaults (nvflare/lighter/impl/he.py): 8192, [60, 40, 40], a scale of 2**40, symmetric; one vector a tensor,
as its filter does. All sites hold one secret key there: a single one that is in league with the server opens
every update. Beside it: `python benchmarks/secure_aggregation.py --sites 10 --parameters 1000000 --rounds 3`.
"""

import argparse
import json
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import tenseal as ts

T = TypeVar("T")


def timed(work: Callable[[], T], spent: list[float]) -> T:
    """What `work` gives; its seconds of CPU are put to the others."""
    started = time.process_time()
    result = work()
    spent.append(time.process_time() - started)
    return result


def main() -> None:
    """One round."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--sites", type=int, default=10)
    parser.add_argument("--parameters", type=int, default=1_000_000)
    parser.add_argument("--tensors", type=int, default=10)
    args = parser.parse_args()
    private = ts.context(
        ts.SCHEME_TYPE.CKKS,
        poly_modulus_degree=8192,
        coeff_mod_bit_sizes=[60, 40, 40],
        encryption_type=ts.ENCRYPTION_TYPE.SYMMETRIC,
    )
    private.global_scale = 2**40
    public = ts.context_from(private.serialize(save_public_key=False, save_secret_key=False))
    rng = np.random.default_rng(0)
    at_sites: list[float] = []
    at_server: list[float] = []
    total: list[ts.CKKSVector] = []
    expected = np.zeros(args.parameters)
    for _ in range(args.sites):
        update = rng.normal(0, 1e-3, args.parameters)
        expected += update / args.sites
        sent = timed(lambda u=update: encrypted(private, u, args), at_sites)
        total = timed(lambda s=sent, t=total: added(public, t, s), at_server)
    told = timed(lambda: [vector.serialize() for vector in total], at_server)
    opened = timed(lambda: decrypted(private, told), at_sites)
    result = {
        "sites": args.sites, "parameters": args.parameters, "bytes_up": sum(map(len, sent)),
        "bytes_down": sum(map(len, told)), "site_cpu_s": round(np.mean(at_sites[:-1]) + at_sites[-1], 3),
        "server_cpu_s": round(sum(at_server), 3), "largest_error": float(np.abs(opened - expected).max()),
    }  # fmt: skip
    print(json.dumps(result) if args.json else "\n".join(f"{k}: {v}" for k, v in result.items()))


def encrypted(context: ts.Context, update: np.ndarray, args: argparse.Namespace) -> list[bytes]:
    """Each tensor times what the site counts as, for the wire."""
    tensors = np.array_split(update * np.float64(1 / args.sites), args.tensors)
    return [ts.ckks_vector(context, tensor).serialize() for tensor in tensors]


def added(context: ts.Context, total: list[ts.CKKSVector], sent: list[bytes]) -> list[ts.CKKSVector]:
    """The sum so far, with one site's update."""
    vectors = [ts.ckks_vector_from(context, data) for data in sent]
    return [a + b for a, b in zip(total, vectors, strict=True)] if total else vectors


def decrypted(context: ts.Context, told: list[bytes]) -> np.ndarray:
    """The sum, at a site."""
    return np.concatenate([ts.ckks_vector_from(context, data).decrypt() for data in told])


if __name__ == "__main__":
    main()
