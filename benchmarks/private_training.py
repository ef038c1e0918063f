"""Time and memory of a private step against the same step without privacy, for every encoder.

`python benchmarks/private_training.py --json` -> for each encoder {"ratio", "chunked_ratio", "opacus_ratio",
"memory_ratio", "chunked_memory_ratio"}. 32 patients, 6 frames of 64 x 64; time interleaved in one process,
ratio of medians; memory is the peak of a process of its own above what it held before the step. Opacus runs
in its fastest configuration that clips per patient: the encoder step by step (folded frames would be clipped
one by one), its own LSTM, hooks, and fused clipping off. `opacus_ratio` is null where it cannot do it; the
reason is under "opacus_problem".
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import MethodType

import torch
from torch import nn

from client.compute.batches import Batch
from client.compute.device import set_up_process
from client.training.private.gradients import PrivateGradients
from client.training.private.patients import Patients
from client.training.private.round import add_noise, sequence_loss
from common.models.cnn_lstm import CNNLSTM
from common.models.encoders import ENCODERS
from common.plan import Model

PATIENTS, FRAMES, SIZE, CHUNK, CLIP = 32, 6, 64, 8, 1.0
VARIANTS = ("plain", "private", "chunked", "opacus")


def make_model(encoder: str) -> CNNLSTM:
    """The CNN-LSTM with its default sizes."""
    torch.manual_seed(1)
    return CNNLSTM(Model(encoder=encoder, embedding=128, hidden=128), 1)


def make_batch() -> Batch:
    """Every patient with one whole sequence."""
    g = torch.Generator().manual_seed(0)
    frames = torch.rand(PATIENTS, FRAMES, SIZE, SIZE, generator=g)
    labels = torch.randint(0, 2, (PATIENTS, 1), generator=g).float()
    return Batch(frames, torch.ones(PATIENTS, FRAMES), torch.full((PATIENTS,), FRAMES), labels)


def forget(model: nn.Module) -> None:
    """No gradients."""
    for p in model.parameters():
        p.grad = None


def plain_step(encoder: str) -> Callable[[], object]:
    """Loss and gradients of the whole batch."""
    model, batch = make_model(encoder), make_batch()

    def step() -> None:
        forget(model)
        sequence_loss(model(batch.frames, batch.gaps, batch.lengths), batch.labels).mean().backward()

    return step


def private_step(encoder: str, chunk: int) -> Callable[[], object]:
    """The clipped sum over patients, and its noise."""
    model, batch = make_model(encoder), make_batch()
    engine, parameters, generator = (
        PrivateGradients(model, CLIP),
        list(model.parameters()),
        torch.Generator().manual_seed(0),
    )
    parts = []
    for start in range(0, PATIENTS, chunk):
        part = Batch(
            *(t[start : start + chunk] for t in (batch.frames, batch.gaps, batch.lengths, batch.labels))
        )
        parts.append(Patients(part, torch.arange(len(part.lengths)), len(part.lengths)))

    def step() -> None:
        forget(model)
        for part in parts:
            engine.accumulate(part, sequence_loss)
        add_noise(parameters, CLIP, PATIENTS, generator)

    return step


def without_inplace_sums(model: nn.Module) -> None:
    """torchvision adds residuals in place, which Opacus's hooks do not allow."""
    from torchvision.models.efficientnet import MBConv
    from torchvision.models.resnet import BasicBlock

    def residual(self: BasicBlock, x: torch.Tensor) -> torch.Tensor:
        kept = x if self.downsample is None else self.downsample(x)
        out: torch.Tensor = self.relu(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))) + kept)
        return out

    def inverted(self: MBConv, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.block(x) + x if self.use_res_connect else self.block(x)
        return out

    for module in model.modules():
        if isinstance(module, (nn.ReLU, nn.SiLU)):
            module.inplace = False
        if isinstance(module, (BasicBlock, MBConv)):
            module.forward = MethodType(residual if isinstance(module, BasicBlock) else inverted, module)


def opacus_step(encoder: str) -> Callable[[], object]:
    """The same by Opacus: gradients of every patient, clipped and summed by its optimiser."""
    from opacus import GradSampleModule
    from opacus.layers import DPLSTM
    from opacus.optimizers import DPOptimizer

    model, batch = make_model(encoder), make_batch()
    without_inplace_sums(model)
    model.lstm = DPLSTM(model.lstm.input_size, model.lstm.hidden_size, batch_first=True)
    model.scale.requires_grad_(False)  # a parameter without a module, which Opacus does not know
    private = GradSampleModule(model)
    encode = private._module.encoder.forward

    def by_step(rows: torch.Tensor) -> torch.Tensor:
        frames = rows.view(PATIENTS, FRAMES, *rows.shape[1:])
        return torch.stack([encode(frames[:, t]) for t in range(FRAMES)], 1).flatten(0, 1)

    private._module.encoder.forward = by_step
    sgd = torch.optim.SGD([p for p in private.parameters() if p.requires_grad], lr=0.0)
    optimizer = DPOptimizer(sgd, noise_multiplier=1.0, max_grad_norm=CLIP, expected_batch_size=PATIENTS)

    def step() -> None:
        optimizer.zero_grad()
        sequence_loss(private(batch.frames, batch.gaps, batch.lengths), batch.labels).mean().backward()
        optimizer.pre_step()

    return step


def make_step(variant: str, encoder: str) -> Callable[[], object]:
    """One of VARIANTS, ready to be called again and again."""
    if variant == "plain":
        return plain_step(encoder)
    if variant == "opacus":
        return opacus_step(encoder)
    return private_step(encoder, PATIENTS if variant == "private" else CHUNK)


def peak_mb() -> float:
    """Largest resident size of this process so far."""
    line = next(
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")
    )
    return int(line.split()[1]) / 1024


def measure_memory(variant: str, encoder: str) -> float:
    """Peak of one step above what the process held before it, MB."""
    done = subprocess.run(
        [sys.executable, __file__, "--memory", variant, "--encoder", encoder],
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


def measure(encoder: str, repeats: int) -> dict[str, object]:
    """All ratios of one encoder."""
    steps, result = {}, {}
    for variant in VARIANTS:
        try:
            steps[variant] = make_step(variant, encoder)
            steps[variant]()
        except Exception as e:  # Opacus meets layers that it does not know
            if variant != "opacus":
                raise
            result["opacus_problem"] = f"{type(e).__name__}: {str(e).splitlines()[0][:120]}"
            steps.pop(variant, None)
    times: dict[str, list[float]] = {variant: [] for variant in steps}
    for _ in range(repeats):
        for variant, step in steps.items():
            started = time.perf_counter()
            step()
            times[variant].append(time.perf_counter() - started)
    median = {variant: statistics.median(t) for variant, t in times.items()}
    memory = {variant: measure_memory(variant, encoder) for variant in ("plain", "private", "chunked")}
    return {
        "ratio": median["private"] / median["plain"], "chunked_ratio": median["chunked"] / median["plain"],
        "opacus_ratio": median["opacus"] / median["plain"] if "opacus" in median else None,
        "memory_ratio": memory["private"] / memory["plain"],
        "chunked_memory_ratio": memory["chunked"] / memory["plain"],
        "plain_s": median["plain"], "plain_mb": memory["plain"], **result,
    }  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--encoder", choices=sorted(ENCODERS), action="append")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--memory", choices=VARIANTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    set_up_process()
    if args.memory:
        step = make_step(args.memory, args.encoder[0])
        before = peak_mb()
        step()
        print(peak_mb() - before)
        return
    found = {encoder: measure(encoder, args.repeats) for encoder in args.encoder or sorted(ENCODERS)}
    print(json.dumps(found, indent=None if args.json else 2))


if __name__ == "__main__":
    main()
