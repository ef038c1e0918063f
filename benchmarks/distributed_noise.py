"""What distributed noise would give under aggregation.secure, were it built (docs/secure-aggregation.md).

`python benchmarks/distributed_noise.py --json` -> {"local": {"10": std, "1": std}, "distributed": {"3":
{"all": std, "most": std, "strict_epsilon": ε}, "10": …, "50": …}}. Standard deviations are of the noise in a
step's mean gradient, over the clip. Local: of one site, with so many steps a round; in the mean of n sites
divided by sqrt(n). Distributed: of the mean, with one step a round, where all sites, or most, have to be
honest for the sum to have the noise that ε asks for. strict_epsilon: what the same run costs where all the
others are in league with the server, and each counted on all. By this program's accountant, which is that of
the continuous Gaussian: a discrete one in the ring costs a little more.
"""

import argparse
import json

from client.governance.accounting import epsilon, solve_noise
from common.plan import Privacy

SITES = (3, 10, 50)


def main() -> None:
    """Noise and ε for each number of sites."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--epsilon", type=float, default=1.0)
    parser.add_argument("--delta", type=float, default=1e-5)
    parser.add_argument("--patients", type=int, default=1000, help="of each site")
    parser.add_argument("--batch", type=int, default=64, help="expected, of each site")
    parser.add_argument("--rounds", type=int, default=40)
    args = parser.parse_args()
    privacy, rate = Privacy(epsilon=args.epsilon, delta=args.delta), args.batch / args.patients
    noise = {steps: solve_noise(privacy, rate, steps * args.rounds) for steps in (10, 1)}
    found = {
        "local": {steps: round(sigma / args.batch, 5) for steps, sigma in noise.items()},
        "distributed": {n: _distributed(noise[1], n, rate, args) for n in SITES},
    }
    print(json.dumps(found) if args.json else "\n".join(f"{k}: {v}" for k, v in found.items()))


def _distributed(sigma: float, n: int, rate: float, args: argparse.Namespace) -> dict[str, float]:
    """Where the sum over `honest` sites has the noise `sigma`, each adds sigma / sqrt(honest)."""
    of_mean = {
        name: sigma * (n / honest) ** 0.5 / (n * args.batch)
        for name, honest in {"all": n, "most": n // 2 + 1}.items()
    }
    strict = epsilon([(sigma / n**0.5, rate, args.rounds)], args.delta)
    return {name: round(std, 5) for name, std in of_mean.items()} | {"strict_epsilon": round(strict, 2)}


if __name__ == "__main__":
    main()
