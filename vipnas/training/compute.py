"""How a training step is computed: number format, memory order, compilation.

What is trained does not change with it, but the last bits do, so that it belongs to the settings
that a checkpoint is checked against.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vipnas.arch import Arch
from vipnas.files import Strict
from vipnas.models.posenet import PoseNet
from vipnas.training.distributed import ALONE, Processes

# Heatmaps (B, K, h, w), float32, of normalised images (B, 3, H, W) through a member of a network;
# None is the whole network.
Forward = Callable[[Tensor, "Arch | None"], Tensor]


@dataclass(frozen=True)
class Compute(Strict):
    """What a GPU wants; on a CPU the defaults change nothing.

    `precision`: bfloat16 runs convolutions in it, by autocast; weights, their gradients, losses and
    the optimiser stay float32. `channels_last`: the memory order of activations. `compile`: the
    network as it was built, that is the largest member of a supernet, by `torch.compile`; it takes
    minutes at the start. `cuda_graph`: on one GPU, the forward and backward pass of a network that
    is trained by itself, where it is not compiled, as one CUDA graph. `fused_optimizer`: on a GPU,
    the optimiser as one kernel.
    `synchronise_batch_norm`: with several processes, statistics are those of the joint batch, so
    that N processes train as one would; without it each normalises by its own images.
    """

    precision: Literal["float32", "bfloat16"] = "float32"
    channels_last: bool = True
    compile: bool = False
    cuda_graph: bool = True
    fused_optimizer: bool = True
    synchronise_batch_norm: bool = True


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
