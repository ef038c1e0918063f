"""Does noise that is correlated over the steps (DP-FTRL, matrix factorisation) pay for a hospital?

`python benchmarks/correlated_noise.py --json` -> {"cells": […], "training": […]}: for each ε, sampling rate
and number of steps, the noise multiplier of every mechanism at the same (ε, δ), and the error of what
training sums up, over that of DP-SGD: "sums" of plain prefix sums, "descent" of what SGD with the momentum,
its restart in each round, and the schedule of configs/pneumoniamnist-private.yaml makes of the gradients.
"mean", of DP-SGD alone, is the error of the mean gradient of all steps in units of clip / patients.

Mechanisms: the sum of clipped gradients at step t gets row t of C⁻¹Z, Z being N(0, (σ·clip)²), so that the
error of a workload A is σ·‖A C⁻¹‖_F. C has columns of length one and is b-banded, optimised for A. Each
patient is dealt to one of b groups, independently; step t samples from group t mod b at b times the rate.
Columns of a group share no row: all costs ⌈steps / b⌉ Gaussian steps at rate min(1, b·rate)
(Choquette-Choo et al., 2023, "(Amplified) Banded Matrix Factorization"). b = 1 is DP-SGD; at b = 1/rate
nothing is sampled: a patient takes part once in b steps. "toeplitz" is that without a limit on the bands
(DP-FTRL; Kalinin and Lampert, 2024): columns overlap, and C is brought to max_i ‖Σ_j C[:, i + jb]‖ = 1.

--train FILE trains on a file such as PneumoniaMNIST's by that configuration: {"epsilon", "seed", "bands",
"auroc"} for each ε, seed and number of bands; --set changes it.
"""

import argparse
import json
import secrets
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from client.compute.device import set_up_process
from client.governance.accounting import solve_noise
from client.imaging.cohort import Cohort
from client.training.evaluate import predictions
from client.training.optimizer import Optimizer
from client.training.private.gradients import PrivateGradients
from client.training.private.patients import in_chunks, sequences_by_patient
from client.training.private.round import _augmented, add_noise, normal, sequence_loss
from client.training.schedule import rate_factor
from common.config import load_yaml
from common.models.cnn_lstm import CNNLSTM
from common.models.pretrained import starting_model
from common.plan import Plan, Privacy
from common.scores import Predictions, macro_auroc
from simulation.scenario import Scenario
from simulation.sites import prepare_sites

CONFIG = Path(__file__).parents[1] / "configs/pneumoniamnist-private.yaml"
DELTA = 1e-5
PERIODS = (3, 5, 10, 50)  # one over the sampling rate
ROUNDS = (20,)  # of eight steps
CPU = torch.device("cpu")


def sums(steps: int) -> Tensor:
    """(T, T): row t sums the gradients up to t."""
    return torch.ones(steps, steps, dtype=torch.float64).tril()


def descent(plan: Plan) -> Tensor:
    """(T, T): row t holds how far each gradient moved the weights by the end of step t, as
    client/training/private/round.py does with SGD."""
    assert plan.privacy is not None
    steps, training = plan.rounds * plan.privacy.steps, plan.training
    t = torch.arange(steps, dtype=torch.float64)
    behind = t[:, None] - t
    same_round = (t[:, None] // plan.privacy.steps) == (t // plan.privacy.steps)
    momentum = torch.where(same_round & (behind >= 0), training.momentum ** behind.clamp(min=0), 0.0)
    rates = torch.tensor([rate_factor(training.schedule, k / steps) for k in range(steps)]).double()
    return sums(steps) @ (rates[:, None] * momentum)


def error(workload: Tensor, strategy: Tensor) -> Tensor:
    """Root of the mean over steps of what noise of deviation one makes of each coordinate: ‖A C⁻¹‖_F / √T."""
    factor = torch.linalg.solve_triangular(strategy, workload, upper=False, left=False)
    return factor.square().sum().div(len(workload)).sqrt()


def minimise(parameters: Tensor, loss_of: Callable[[Tensor], Tensor]) -> None:
    """In place, by L-BFGS, the logarithm of what is to be small."""
    parameters.requires_grad_()
    optimizer = torch.optim.LBFGS([parameters], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(parameters).log()
        loss.backward()
        return loss

    optimizer.step(closure)


def square_root(n: int) -> Tensor:
    """(n,) coefficients of the Toeplitz square root of `sums`: binom(2k, k) / 4^k (Fichtenberger et al.,
    2022)."""
    k = torch.arange(1, n, dtype=torch.float64)
    return torch.cat([torch.ones(1, dtype=torch.float64), torch.cumprod((2 * k - 1) / (2 * k), 0)])


def banded(workload: Tensor, bands: int) -> Tensor:
    """(T, T) lower triangular C of so many bands and columns of length one, the best for the workload that
    L-BFGS finds, beginning with that of half the bands."""
    steps, bands = len(workload), min(bands, len(workload))
    if bands == 1:
        return torch.eye(steps, dtype=torch.float64)
    at = torch.arange(steps)[None] + torch.arange(bands)[:, None]  # the row of each band in each column
    inside = at < steps
    rows, columns = at[inside], torch.arange(steps).expand_as(at)[inside]

    def strategy(values: Tensor) -> Tensor:
        filled = torch.zeros(steps, steps, dtype=torch.float64).index_put((rows, columns), values)
        return filled / filled.norm(dim=0)

    values = banded(workload, bands // 2)[rows, columns]
    minimise(values, lambda v: error(workload, strategy(v)))
    return strategy(values.detach())


def sensitivity(strategy: Tensor, period: int) -> Tensor:
    """Of a patient who is in every `period`-th step, C having no negative entry: max_i ‖Σ_j C[:, i + jb]‖."""
    steps = len(strategy)
    phases = torch.nn.functional.pad(strategy, (0, -steps % period)).view(steps, -1, period)
    return phases.sum(1).norm(dim=0).max()


def toeplitz(workload: Tensor, period: int) -> Tensor:
    """(T, T) Toeplitz C of T bands of positive numbers, of sensitivity one, the best that L-BFGS finds."""
    steps = len(workload)
    lag = (torch.arange(steps)[:, None] - torch.arange(steps)).clamp(min=-1)

    def strategy(roots: Tensor) -> Tensor:
        filled = torch.cat([roots.square(), roots.new_zeros(1)])[lag]  # the last one is above the diagonal
        return filled / sensitivity(filled, period)

    roots = square_root(steps).sqrt()
    minimise(roots, lambda v: error(workload, strategy(v)))
    return strategy(roots.detach())


def noise(epsilon: float, rate: float, steps: int) -> float:
    """Of the product's accountant."""
    return solve_noise(Privacy(epsilon=epsilon, delta=DELTA), min(1.0, rate), steps)


def cells(plan: Plan, epsilons: Sequence[float]) -> list[dict[str, object]]:
    """All mechanisms for all periods and ε, and one number of steps."""
    steps = plan.rounds * (plan.privacy.steps if plan.privacy else 0)
    workloads = {"sums": sums(steps), "descent": descent(plan)}
    plain = {name: float(error(a, torch.eye(steps, dtype=torch.float64))) for name, a in workloads.items()}
    choices = sorted({b for period in PERIODS for b in bands_of(period, steps)})
    lost = {b: {name: float(error(a, banded(a, b))) for name, a in workloads.items()} for b in choices}
    found: list[dict[str, object]] = []
    for period in PERIODS:
        full = {name: float(error(a, toeplitz(a, period))) for name, a in workloads.items()}
        for epsilon in epsilons:
            mechanisms = {
                str(b): (noise(epsilon, b / period, -(-steps // b)), lost[b]) for b in bands_of(period, steps)
            }
            mechanisms["toeplitz"] = (noise(epsilon, 1.0, 1), full)
            dpsgd = mechanisms["1"][0]
            for bands, (sigma, errors) in mechanisms.items():
                ratios = {name: round(sigma * e / (dpsgd * plain[name]), 3) for name, e in errors.items()}
                cell = {"epsilon": epsilon, "rate": round(1 / period, 3), "steps": steps, "bands": bands}
                mean = round(sigma * period / steps**0.5, 3) if bands == "1" else None
                found.append({**cell, "noise": round(sigma, 3), "mean": mean, **ratios})
    return found


def bands_of(period: int, steps: int) -> list[int]:
    """Numbers of bands that are tried at the rate 1 / period."""
    return [b for b in (1, 2, 4, 10, 50) if b < period and b < steps] + [min(period, steps)]


class Site:
    """One hospital through a run: its patients in groups, and the noise that it must remember."""

    def __init__(self, cohort: Cohort, plan: Plan, bands: int, strategy: Tensor) -> None:
        privacy = plan.privacy
        assert privacy is not None
        self.cohort, self.plan, self.bands, self.strategy = cohort, plan, bands, strategy
        self.patients = sequences_by_patient(cohort, cohort.split(plan.split)["train"], privacy.max_sequences)
        self.secret = torch.Generator().manual_seed(secrets.randbits(63))
        self.groups = torch.randint(bands, (len(self.patients),), generator=self.secret)
        self.rate = min(1.0, bands * plan.training.batch_size / len(self.patients))
        steps = plan.rounds * privacy.steps
        self.noise = solve_noise(privacy, self.rate, -(-steps // bands)) * privacy.clip
        self.past: deque[Tensor] = deque(maxlen=bands)

    def correlated(self, t: int, n: int) -> Tensor:
        """(n,): row t of C⁻¹Z by forward substitution, from the rows before it within the band."""
        row = normal(n, self.noise, CPU, self.secret)
        for back, before in enumerate(reversed(self.past), 1):
            if back < self.bands:
                row -= self.strategy[t, t - back] * before
        row /= self.strategy[t, t]
        self.past.append(row)
        return row

    def train(self, model: CNNLSTM, round: int) -> None:
        """As train_private_round, but for who is sampled and the noise."""
        plan, privacy = self.plan, self.plan.privacy
        assert privacy is not None
        optimizer = Optimizer(model.parameters(), plan.training.model_copy(update={"clip_norm": None}))
        engine = PrivateGradients(model, privacy.clip)
        model.train()
        for t in range((round - 1) * privacy.steps, round * privacy.steps):
            optimizer.zero_grad()
            coins = torch.rand(len(self.patients), generator=self.secret) < self.rate
            chosen = (coins & (self.groups == t % self.bands)).nonzero().flatten().tolist()
            if chosen:
                for chunk in in_chunks(self.cohort, [self.patients[i] for i in chosen], privacy.chunk, CPU):
                    engine.accumulate(_augmented(chunk, plan, self.secret), sequence_loss)
            self.add_noise(optimizer.parameters, t)
            progress = t / (plan.rounds * privacy.steps)
            optimizer.step(plan.training.learning_rate * rate_factor(plan.training.schedule, progress))
        engine.detach()

    def add_noise(self, parameters: list[Tensor], t: int) -> None:
        """Correlated noise on the clipped sum, over the expected batch."""
        add_noise(parameters, 0.0, self.plan.training.batch_size, self.secret)
        row = self.correlated(t, sum(p.numel() for p in parameters)) / self.plan.training.batch_size
        for p, part in zip(parameters, row.split([p.numel() for p in parameters]), strict=True):
            assert p.grad is not None
            p.grad += part.view_as(p)


def auroc(cohorts: Sequence[Cohort], plan: Scenario, bands: int) -> float:
    """Of the federated model after the plan's rounds, on all sites' test patients."""
    strategy = banded(descent(plan), bands)
    sites = [Site(cohort, plan, bands, strategy) for cohort in cohorts]
    start = plan.simulation.pretrained
    model = starting_model(plan, Path(start) if start else None)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    for round in range(1, plan.rounds + 1):
        trained = []
        for site in sites:
            model.load_state_dict(weights)
            site.train(model, round)
            trained.append({name: value.clone() for name, value in model.state_dict().items()})
        weights = {name: torch.stack([w[name] for w in trained]).mean(0) for name in weights}
    model.load_state_dict(weights)
    tested = [predictions(model, cohort, cohort.split(plan.split)["test"], CPU) for cohort in cohorts]
    return macro_auroc(Predictions.together(tested))


def training(file: Path, arguments: argparse.Namespace) -> list[dict[str, object]]:
    """An AUROC for each seed, ε and number of bands."""
    found: list[dict[str, object]] = []
    for seed in arguments.seeds:
        values = [f"data.path={file.resolve()}", f"seed={seed}", *arguments.set]
        scenario = load_yaml(CONFIG, Scenario, values)
        assert scenario.privacy is not None
        with tempfile.TemporaryDirectory() as out:
            cohorts = [site.open() for site in prepare_sites(scenario, Path(out))]
            for epsilon in arguments.epsilon:
                privacy = scenario.privacy.model_copy(update={"epsilon": epsilon})
                plan = scenario.model_copy(update={"privacy": privacy})
                for bands in arguments.bands:
                    value = round(auroc(cohorts, plan, bands), 4)
                    found.append({"epsilon": epsilon, "seed": seed, "bands": bands, "auroc": value})
                    print(found[-1], file=sys.stderr, flush=True)
    return found


def main() -> None:
    """Work the cells out, or train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--epsilon", type=float, nargs="+", default=[1.0, 3.0, 8.0])
    parser.add_argument("--rounds", type=int, nargs="+", default=ROUNDS, help="of the cells")
    parser.add_argument("--train", type=Path, metavar="FILE", help="train instead")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--bands", type=int, nargs="+", default=[1, 2, 4], help="in training")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="as in pneumofed simulate"
    )
    arguments = parser.parse_args()
    set_up_process(1)
    found: dict[str, list[dict[str, object]]] = {"cells": [], "training": []}
    if arguments.train:
        found["training"] = training(arguments.train, arguments)
    else:
        for rounds in arguments.rounds:
            scenario = load_yaml(CONFIG, Scenario, [f"rounds={rounds}", "data.path=unread"])
            found["cells"] += cells(scenario, arguments.epsilon)
    if arguments.json:
        print(json.dumps(found))
        return
    for row in found["cells"] + found["training"]:
        print("  ".join(f"{name} {value!s:<6}" for name, value in row.items()))


if __name__ == "__main__":
    main()
