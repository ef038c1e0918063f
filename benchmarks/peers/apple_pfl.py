"""Apple's pfl: FederatedAveraging on its simulated backend, one process. `python apple_pfl.py JOB WORK`."""

import sys
from pathlib import Path
from typing import Any

import torch
from job import Job, finished, inputs, read, round_ended
from pfl.aggregate.simulate import SimulatedBackend
from pfl.aggregate.weighting import WeightByDatapoints
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.sampling import get_user_sampler
from pfl.hyperparam import NNTrainHyperParams
from pfl.metrics import Metrics
from pfl.model.pytorch import PyTorchModel
from torch import nn

JOB, WORK = Job(Path(sys.argv[1])), Path(sys.argv[2])


class Learner(nn.Module):
    """The model with the loss as pfl asks for it."""

    def __init__(self) -> None:
        super().__init__()
        self.model = JOB.model()

    def loss(self, frames: torch.Tensor, labels: torch.Tensor, eval: bool = False) -> torch.Tensor:
        """Mean over a batch."""
        self.train(not eval)
        logits = self.model(*inputs(frames))
        return nn.functional.binary_cross_entropy_with_logits(logits, labels)

    def metrics(self, frames: torch.Tensor, labels: torch.Tensor, eval: bool = False) -> dict[str, Any]:
        """None is asked for."""
        return {}


class Watch(TrainingProcessCallback):  # type: ignore[misc]
    """Notes when a round ended."""

    def after_central_iteration(self, aggregate_metrics: Any, model: Any, *, central_iteration: int) -> Any:
        """As pfl's."""
        round_ended(WORK)
        return False, Metrics()


def main() -> None:
    """All rounds; the site's own order of patients is the same in each."""
    plan, sites = JOB.plan, JOB.sites
    t = plan.training
    users = list(map(str, range(len(sites))))
    sampler = get_user_sampler("minimize_reuse", users)
    data = FederatedDataset(lambda user: Dataset(raw_data=list(read(sites[int(user)]))), sampler)

    def sgd(parameters: Any, lr: float) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr, t.momentum, weight_decay=t.weight_decay)

    learner = Learner()
    model = PyTorchModel(learner, sgd, torch.optim.SGD(learner.parameters(), 1.0))
    backend = SimulatedBackend(training_data=data, val_data=data, postprocessors=[WeightByDatapoints()])
    rounds = NNAlgorithmParams(
        central_num_iterations=plan.rounds,
        evaluation_frequency=10**9,
        train_cohort_size=len(sites),
        val_cohort_size=0,
    )
    local = NNTrainHyperParams(
        local_num_epochs=t.epochs,
        local_learning_rate=t.learning_rate,
        local_batch_size=t.batch_size,
        local_max_grad_norm=t.clip_norm,
    )
    FederatedAveraging().run(
        rounds, backend, model, local, callbacks=[Watch()], send_metrics_to_platform=False
    )
    finished(WORK, {name.removeprefix("model."): w for name, w in learner.state_dict().items()})


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
