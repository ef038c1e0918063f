"""The small vision transformer against torchvision's, and its positions on other grids."""

import pytest
import torch
from torch import nn
from torchvision.models import VisionTransformer as Theirs

from common.models import vit
from common.models.vit import GRID, VisionTransformer, interpolation


@torch.no_grad()
def copied(ours, theirs):
    """Our weights under torchvision's names."""
    theirs.conv_proj.load_state_dict(ours.patch_embed["proj"].state_dict())
    theirs.class_token.copy_(ours.cls_token)
    theirs.encoder.pos_embedding.copy_(ours.pos_embed)
    for a, b in zip(ours.blocks, theirs.encoder.layers, strict=True):
        b.ln_1.load_state_dict(a.norm1.state_dict())
        b.ln_2.load_state_dict(a.norm2.state_dict())
        b.self_attention.in_proj_weight.copy_(a.attn.qkv.weight)
        b.self_attention.in_proj_bias.copy_(a.attn.qkv.bias)
        b.self_attention.out_proj.load_state_dict(a.attn.proj.state_dict())
        b.mlp[0].load_state_dict(a.mlp["fc1"].state_dict())
        b.mlp[3].load_state_dict(a.mlp["fc2"].state_dict())
    theirs.encoder.ln.load_state_dict(ours.norm.state_dict())
    theirs.heads.head.load_state_dict(ours.head.state_dict())
    return theirs


def moved_away(model):
    """No bias at zero, no norm at one."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return model


def test_on_its_own_grid_it_is_torchvision_s(monkeypatch):
    monkeypatch.setattr(vit, "DEPTH", 2)
    torch.manual_seed(0)
    ours = moved_away(VisionTransformer(3, 4, 5)).eval()
    theirs = copied(
        ours, Theirs(4 * GRID, 4, 2, vit.HEADS, vit.FEATURES, 4 * vit.FEATURES, num_classes=5)
    ).eval()
    x = torch.randn(2, 3, 4 * GRID, 4 * GRID)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-4)


def test_the_class_token_and_every_position_count(monkeypatch):
    monkeypatch.setattr(vit, "DEPTH", 1)
    model = moved_away(VisionTransformer(1, 8, 4))
    model(torch.randn(1, 1, 24, 24)).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())
    assert isinstance(model.map, nn.Identity)


@pytest.mark.parametrize(("rows", "columns"), [(4, 4), (8, 4), (20, 28)])
def test_positions_on_another_grid_lie_between_those_that_were_learned(rows, columns):
    moved = interpolation(rows, columns, torch.device("cpu"), torch.float32)
    torch.testing.assert_close(moved.sum(1), torch.ones(rows * columns))
    # What is linear in the place stays so, but beyond the outermost centres.
    at = (torch.arange(GRID) + 0.5) / GRID
    found = (moved @ (2 * at[:, None] + 3 * at[None]).flatten()).view(rows, columns)
    y, x = (((torch.arange(n) + 0.5) / n).clamp(0.5 / GRID, 1 - 0.5 / GRID) for n in (rows, columns))
    torch.testing.assert_close(found, 2 * y[:, None] + 3 * x[None])


def test_on_the_grid_itself_they_are_what_was_learned():
    moved = interpolation(GRID, GRID, torch.device("cpu"), torch.float32)
    torch.testing.assert_close(moved, torch.eye(GRID**2), rtol=0, atol=1e-5)
