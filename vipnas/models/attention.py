"""Attention of a block: global context (residual) or squeeze-excitation (inverted residual)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vipnas.models.elastic import ElasticConv2d, ElasticLayerNorm

# B batch, C channels, H W height and width


class GlobalContext(nn.Module):
    """Add the same context vector to every position.

    The context is a softmax-weighted mean of all positions, transformed. This is the global context
    block of GCNet (Cao et al., ICCV-W 2019) with attention pooling and channel addition.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = context_channels(channels)
        self.mask = ElasticConv2d(channels, 1, bias=True)
        self.reduce = ElasticConv2d(channels, hidden, bias=True)
        self.norm = ElasticLayerNorm(hidden)
        self.expand = ElasticConv2d(hidden, channels, bias=True)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        channels = x_BCHW.shape[1]
        share_B1HW = self.mask(x_BCHW, 1)
        share_B1P = share_B1HW.flatten(2).softmax(dim=2)
        context_BC11 = torch.matmul(x_BCHW.flatten(2), share_B1P.transpose(1, 2)).unsqueeze(3)
        hidden = F.relu(self.norm(self.reduce(context_BC11, context_channels(channels))))
        added_BC11: Tensor = self.expand(hidden, channels)
        return x_BCHW + added_BC11


class SqueezeExcitation(nn.Module):
    """Scale every channel by a gate in 0..1, computed from the means of all channels.

    The gate is clip((x + 1) / 2, 0, 1), as in the released networks. It is not PyTorch's hard
    sigmoid, clip((x + 3) / 6, 0, 1).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = excitation_channels(channels)
        self.reduce = ElasticConv2d(channels, hidden, bias=True)
        self.expand = ElasticConv2d(hidden, channels, bias=True)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        channels = x_BCHW.shape[1]
        mean_BC11 = F.adaptive_avg_pool2d(x_BCHW, 1)
        hidden = F.relu(self.reduce(mean_BC11, excitation_channels(channels)))
        gate_BC11: Tensor = ((self.expand(hidden, channels) + 1) / 2).clamp(0, 1)
        return x_BCHW * gate_BC11


def context_channels(channels: int) -> int:
    """Return the hidden width of the global context block: a sixteenth, but at least 16."""
    return max(channels // 16, 16)


def excitation_channels(channels: int) -> int:
    """Return the hidden width of squeeze-excitation: a quarter, but at least 1."""
    return max(channels // 4, 1)
