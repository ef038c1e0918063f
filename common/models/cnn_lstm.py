"""The CNN-LSTM: a CNN describes each frame, an LSTM follows them over time, a head sees both.

The idea is the CLDNN (Sainath et al., 2015, "Convolutional, Long Short-Term Memory, Fully Connected Deep
Neural Networks") brought to images: input features with temporal context into the CNN, its output to the
LSTM, and past it.

Shape letters: B sequences, T frames (padded), C channels, H x W pixels, E embedding, D LSTM features, K
findings.
"""

import math
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from common.models.encoders import ENCODERS, build_encoder
from common.plan import Model, Plan
from common.seeds import derive_seed

GAP_SCALE = math.log1p(365.0)
"""A gap of one year (or 365 mm) becomes 1.0: log1p(gap) / log1p(365)."""


class CNNLSTM(nn.Module):
    """Sequences of frames -> one logit per finding.

    Args of `forward`:
        frames: (B, T, H, W) float in [0, 1]; what lies behind a sequence's length is never read.
        gaps: (B, T) float >= 0, days (X-ray) or millimetres (CT) since the previous frame; the first is 0.
        lengths: (B,) int64 in [1, T], in the host's memory: what lies where is decided there, so that a GPU
        is never waited for within a step.

    Returns:
        (B, K) logits. A padded batch gives what its sequences give one by one.
    """

    def __init__(self, model: Model, n_findings: int) -> None:
        """`model.recurrent: false` leaves the LSTM out: what the pooling keeps of the embeddings is all that
        the head sees."""
        super().__init__()
        self.context = model.context
        self.two_sided = model.bidirectional
        self.l2_normalise = model.l2_normalise
        self.time_gap = model.time_gap
        channels = 1 + model.context * (2 if model.bidirectional else 1)
        self.encoder = build_encoder(model, channels)
        self._map = ENCODERS[model.encoder].map
        self.scale = nn.Parameter(torch.tensor([math.sqrt(model.embedding)])) if model.l2_normalise else None
        self.lstm: nn.LSTM | None = None
        features = 0
        if model.recurrent:
            self.lstm = nn.LSTM(
                model.embedding + int(model.time_gap),
                model.hidden,
                num_layers=model.layers,
                bidirectional=model.bidirectional,
                batch_first=True,
            )
            features = model.hidden * (2 if model.bidirectional else 1)
        self.pool = Pooling(model.pooling, features or model.embedding)
        # The skip: the head sees the frames' embeddings too. Without it plain SGD hardly trains the stack.
        # The norm keeps some of the head's units alive: embeddings of length √d give it large steps, and one
        # could switch off all ReLUs.
        self.head = nn.Sequential(
            nn.Linear(features + model.embedding, model.hidden),
            nn.GroupNorm(1, model.hidden),
            nn.ReLU(),
            nn.Linear(model.hidden, n_findings),
        )

    def forward(self, frames: Tensor, gaps: Tensor, lengths: Tensor) -> Tensor:
        logits, _ = self.explain(frames, gaps, lengths)
        return logits

    @property
    def last_map(self) -> nn.Module:
        """The encoder's module whose output is the last map that still has places."""
        return self.encoder.get_submodule(self._map)

    def explain(self, frames: Tensor, gaps: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """As `forward`, with the weight of each frame in the pooling: (B, K) logits, (B, T) weights that sum
        to 1."""
        on_host, device = frame_mask(lengths, frames.shape[1]), frames.device
        embeddings = self._embed(frames, lengths, on_host)
        valid, ends = on_host.to(device, non_blocking=True), lengths.to(device, non_blocking=True)
        if self.lstm is None:
            weights = self.pool(embeddings, valid, ends)
            pooled = weighted_sum(weights, embeddings)
        else:
            steps = embeddings
            if self.time_gap:
                steps = torch.cat(
                    [embeddings, (torch.log1p(gaps) / GAP_SCALE).unsqueeze(2).to(embeddings.dtype)], dim=2
                )
            states = self.follow(steps, lengths)
            weights = self.pool(states, valid, ends)
            pooled = torch.cat([weighted_sum(weights, states), weighted_sum(weights, embeddings)], dim=1)
        logits: Tensor = self.head(pooled)
        return logits, weights

    def _embed(self, frames: Tensor, lengths: Tensor, valid: Tensor) -> Tensor:
        """Encode the real frames only, and lay their embeddings back into (B, T, E) with zeros behind the
        end."""
        rows: Tensor = self.encoder(
            with_context(standardise(frames), lengths, valid, self.context, self.two_sided)
        )
        if self.scale is not None:
            rows = self.scaled(rows)
        padded = rows.new_zeros(*valid.shape, rows.shape[1])
        batch, time = (places.to(rows.device, non_blocking=True) for places in valid.nonzero(as_tuple=True))
        padded[batch, time] = rows
        return padded

    def scaled(self, rows: Tensor) -> Tensor:
        """(N, E) embeddings brought to length one, times the learned scale."""
        assert self.scale is not None
        return F.normalize(rows, dim=1) * self.scale

    def follow(self, steps: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, E) -> (B, T, D): the LSTM's states, from the real frames of each sequence alone."""
        assert self.lstm is not None
        # cuDNN's LSTM has no backward pass outside of training, and an explanation asks for one.
        explained = steps.is_cuda and steps.requires_grad and not self.training
        with torch.backends.cudnn.flags(enabled=False) if explained else nullcontext():
            return self._states(self.lstm, steps, lengths)

    def _states(self, lstm: nn.LSTM, steps: Tensor, lengths: Tensor) -> Tensor:
        states: Tensor
        if not self.two_sided:
            # Forward in time, padding lies behind the end and cannot reach a real frame's state.
            states = lstm(steps)[0]
        else:
            packed = pack_padded_sequence(steps, lengths, batch_first=True, enforce_sorted=False)
            states = pad_packed_sequence(lstm(packed)[0], batch_first=True, total_length=steps.shape[1])[0]
        return states


class Pooling(nn.Module):
    """Weights over time. `last`: the last real frame; `mean`: all alike; `attention`: learned (Bahdanau et
    al., 2015).

    Shapes: states (B, T, D), valid (B, T) bool, lengths (B,) -> weights (B, T), each row sums to 1, 0 on
    padding.
    """

    def __init__(self, kind: str, features: int) -> None:
        super().__init__()
        self.kind = kind
        if kind == "attention":
            self.query = nn.Sequential(
                nn.Linear(features, features), nn.Tanh(), nn.Linear(features, 1, bias=False)
            )

    def forward(self, states: Tensor, valid: Tensor, lengths: Tensor) -> Tensor:
        if self.kind == "last":
            return F.one_hot(lengths - 1, states.shape[1]).to(states.dtype)
        if self.kind == "mean":
            return valid.to(states.dtype) / lengths.unsqueeze(1).to(states.dtype)
        scores: Tensor = self.query(states).squeeze(2).masked_fill(~valid, -torch.inf)
        return scores.softmax(dim=1)


def frame_mask(lengths: Tensor, n_frames: int) -> Tensor:
    """(B,) lengths -> (B, n_frames) bool, true where a real frame lies."""
    return torch.arange(n_frames) < lengths.unsqueeze(1)


def standardise(frames: Tensor) -> Tensor:
    """Each frame to mean 0 and variance 1: exposure and contrast differ between scanners, and say nothing of
    disease.

    Without it, embeddings of all frames start nearly parallel and plain SGD stays on a plateau for a long
    time.
    """
    mean = frames.mean(dim=(2, 3), keepdim=True)
    variance = frames.var(dim=(2, 3), keepdim=True, correction=0)
    return (frames - mean) * torch.rsqrt(variance + 1e-4)


def with_context(frames: Tensor, lengths: Tensor, valid: Tensor, context: int, two_sided: bool) -> Tensor:
    """Real frames with their neighbours as channels: (B, T, H, W) -> (N, C, H, W), N real frames in (b, t)
    order.

    Channel 0 is the frame itself, then `context` earlier ones, then as many later ones if `two_sided`. Beyond
    either end of the sequence its first or last real frame is repeated, so that padding is never seen.
    """
    offsets = [0, *range(-1, -context - 1, -1), *(range(1, context + 1) if two_sided else ())]
    batch, time = valid.nonzero(as_tuple=True)
    wanted = time.unsqueeze(1) + torch.tensor(offsets)
    neighbour = torch.minimum(wanted.clamp_min(0), (lengths[batch] - 1).unsqueeze(1))
    batch, neighbour = (places.to(frames.device, non_blocking=True) for places in (batch, neighbour))
    return frames[batch.unsqueeze(1), neighbour]


def weighted_sum(weights: Tensor, values: Tensor) -> Tensor:
    """(B, T) weights, (B, T, D) values -> (B, D)."""
    return torch.einsum("bt,btd->bd", weights.to(values.dtype), values)


def build_model(plan: Plan) -> CNNLSTM:
    """The plan's model with initial weights that depend on the plan's seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(plan.seed, "model"))
        return CNNLSTM(plan.model, len(plan.findings))
