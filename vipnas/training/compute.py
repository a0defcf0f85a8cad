"""How a training step is computed: number format, memory order, compilation.

What is trained does not change with it, but the last bits do, so that it belongs to the settings
that a checkpoint is checked against.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vipnas.arch.image import Arch
from vipnas.config.training import Compute
from vipnas.models.posenet import PoseNet
from vipnas.training.distributed import ALONE, Processes

# Heatmaps (B, K, h, w), float32, of normalised images (B, 3, H, W) through a member of a network;
# None is the whole network.
Forward = Callable[[Tensor, "Arch | None"], Tensor]


def make_forward(network: PoseNet, compute: Compute, processes: Processes = ALONE) -> Forward:
    """The door through which a training step runs the members of a network.

    Raises Disagreement, in all processes that train together, if they are about to run different
    members.
    """
    device = next(network.parameters()).device.type
    whole = torch.compile(network) if compute.compile else network
    reduced = compute.precision == "bfloat16"
    order = torch.channels_last if compute.channels_last else torch.contiguous_format

    def forward(images_B3HW: Tensor, arch: Arch | None = None) -> Tensor:
        processes.agree("the arch to train", arch or network.arch)
        images = images_B3HW.contiguous(memory_format=order)
        is_whole = arch is None or arch == network.arch
        with torch.autocast(device, torch.bfloat16, enabled=reduced):
            heatmaps: Tensor = whole(images) if is_whole else network(images, arch)
        return heatmaps.float() if reduced else heatmaps

    return forward
