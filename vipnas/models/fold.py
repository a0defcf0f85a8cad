"""Fold batch norm into the convolution before it, for inference only."""

from __future__ import annotations

import torch
from torch import nn

from vipnas.models.elastic import ElasticConv2d


@torch.no_grad()
def fold_batch_norm(network: nn.Module) -> None:
    """Put every batch norm that follows a convolution into that convolution's weight and bias.

    This is done in place, and is exact up to rounding in evaluation mode at full size. The network
    cannot be trained, calibrated or sliced afterwards. In a block, `norm` follows `conv` and
    `X_norm` follows `X`. The norms of deconvolutions stay: on a CPU, a bias takes longer there.
    """
    for block in list(network.modules()):
        for name, norm in list(block.named_children()):
            if not isinstance(norm, nn.BatchNorm2d):
                continue
            conv = block.get_submodule("conv" if name == "norm" else name.removesuffix("_norm"))
            if isinstance(conv, ElasticConv2d):
                _fold(conv, norm)
                setattr(block, name, nn.Identity())


def _fold(conv: ElasticConv2d, norm: nn.BatchNorm2d) -> None:
    assert norm.running_mean is not None and norm.running_var is not None
    scale_C = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    shift_C = norm.bias - norm.running_mean * scale_C
    if conv.bias is not None:
        shift_C = shift_C + conv.bias * scale_C
    conv.weight.mul_(scale_C.view(-1, 1, 1, 1))
    conv.bias = nn.Parameter(shift_C)
