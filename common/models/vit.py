"""A small vision transformer (Dosovitskiy et al., 2021, "An Image is Worth 16x16 Words"), of the sizes of
DeiT-Ti (Touvron et al., 2021), with the names that timm gives its parts: published files fit.

Positions are learned on DeiT's grid of 14 x 14 patches, and brought to the frame's own grid by means of two
matrix products: the same weights read frames of any size. Attention is written out, in an order that is the
same on every run.

Shape letters: N frames, L patches (h x w), D features.
"""

from functools import lru_cache

import torch
from torch import Tensor, nn

FEATURES, DEPTH, HEADS, GRID = 192, 12, 3, 14
EPS = 1e-6  # of LayerNorm, as in timm


class VisionTransformer(nn.Module):
    """(N, channels, H, W) float -> (N, embedding) float; H and W are multiples of `patch`.

    The first of 1 + L tokens is the class token, from which the embedding is read.
    """

    def __init__(self, channels: int, patch: int, embedding: int) -> None:
        super().__init__()
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(channels, FEATURES, patch, stride=patch)})
        self.cls_token = nn.Parameter(torch.zeros(1, 1, FEATURES))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + GRID**2, FEATURES))
        self.blocks = nn.Sequential(*(Block() for _ in range(DEPTH)))
        self.map = nn.Identity()
        self.norm = nn.LayerNorm(FEATURES, EPS)
        self.head = nn.Linear(FEATURES, embedding)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """`map` sees what the last block reads of the patches, as (N, D, h, w)."""
        patches = self.patch_embed["proj"](x)
        places = patches.shape[2:]
        moved = interpolation(places[0], places[1], x.device, patches.dtype)
        tokens = self.blocks[:-1](self.placed(patches.flatten(2).transpose(1, 2), moved))
        seen = self.map(tokens[:, 1:].transpose(1, 2).unflatten(2, places))
        tokens = self.blocks[-1](torch.cat([tokens[:, :1], seen.flatten(2).transpose(1, 2)], 1))
        embedding: Tensor = self.head(self.norm(tokens)[:, 0])
        return embedding

    def placed(self, patches: Tensor, moved: Tensor) -> Tensor:
        """(N, L, D) -> (N, 1 + L, D): the class token before the patches, and all with their positions;
        `moved` (L, GRID²) brings these to the frame's grid."""
        first = (self.cls_token + self.pos_embed[:, :1]).expand(patches.shape[0], -1, -1)
        return torch.cat([first, patches + moved @ self.pos_embed[0, 1:]], 1)


class Block(nn.Module):
    """Attention and a network of two layers, each with a norm before and a skip around: (N, 1 + L, D)."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(FEATURES, EPS), nn.LayerNorm(FEATURES, EPS)
        self.attn = Attention()
        self.mlp = nn.ModuleDict(
            {"fc1": nn.Linear(FEATURES, 4 * FEATURES), "fc2": nn.Linear(4 * FEATURES, FEATURES)}
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        wide = nn.functional.gelu(self.mlp["fc1"](self.norm2(x)))
        result: Tensor = x + self.mlp["fc2"](wide)
        return result


class Attention(nn.Module):
    """Scaled dot products of HEADS heads (Vaswani et al., 2017): (N, 1 + L, D) -> the same."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(FEATURES, 3 * FEATURES)
        self.proj = nn.Linear(FEATURES, FEATURES)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(2, 3) * (FEATURES // HEADS) ** -0.5).softmax(3)
        result: Tensor = self.proj((weights @ v).transpose(1, 2).flatten(2))
        return result


@lru_cache(maxsize=16)
def interpolation(rows: int, columns: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """(rows x columns, GRID²) that takes linear interpolations in between the centres of GRID x GRID places,
    of every place alike; on the grid itself it changes nothing."""
    with torch.inference_mode(False):  # whoever asks first may judge, and who asks next train
        moved = _along(rows)[:, None, :, None] * _along(columns)[None, :, None, :]
        return moved.reshape(rows * columns, GRID**2).to(device, dtype)


def _along(places: int) -> Tensor:
    """(places, GRID) of one side; beyond the outermost centres, these."""
    at = ((torch.arange(places) + 0.5) * GRID / places - 0.5).clamp(0, GRID - 1)
    return (1 - (at[:, None] - torch.arange(GRID)).abs()).clamp_min(0)
