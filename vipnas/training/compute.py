"""How a training step is computed: number format, memory order, compilation.

It changes results by rounding only. A checkpoint is still checked against it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias

import torch
from torch import Tensor

from vipnas.config.training import Compute
from vipnas.models.clipnet import FollowUpNet
from vipnas.models.compiler import check_compiler
from vipnas.models.posenet import PoseNet
from vipnas.training.distributed import ALONE, Processes

# From a network's inputs and the architecture to run, None for the whole network, to heatmaps
# (B, K, h, w) in float32: `forward(images, arch)`; `forward(images, before, follow_up)` for a
# follow-up network.
Forward: TypeAlias = Callable[..., Tensor]


def resolved(compute: Compute, device: torch.device) -> Compute:
    """Return the settings with the precision that `auto` means on a device."""
    if compute.precision != "auto":
        return compute
    computes_in_it = device.type == "cuda" and torch.cuda.is_bf16_supported(
        including_emulation=False
    )
    return replace(compute, precision="bfloat16" if computes_in_it else "float32")


def check_compute(compute: Compute, device: torch.device) -> None:
    """Raise UserError if this machine cannot compute so."""
    if compute.compile:
        check_compiler("compute.compile", device)


def make_forward(
    network: PoseNet | FollowUpNet, compute: Compute, processes: Processes = ALONE
) -> Forward:
    """Return the function that runs a network and its subnets in a training step.

    `forward` raises Disagreement, in all processes that train together, if they are about to run
    different subnets.
    """
    device = next(network.parameters()).device.type
    check_compute(compute, torch.device(device))
    compute = resolved(compute, torch.device(device))
    whole = torch.compile(network) if compute.compile else network
    reduced = compute.precision == "bfloat16"
    order = torch.channels_last if compute.channels_last else torch.contiguous_format
    own = network.follow_up if isinstance(network, FollowUpNet) else network.arch
    must_be_told = isinstance(network, FollowUpNet) and len(network.fusions) > 1

    def forward(images_B3HW: Tensor, *more: Any) -> Tensor:
        *inputs, arch = more
        processes.agree("the arch to train", arch or own)
        inputs.insert(0, images_B3HW.contiguous(memory_format=order))
        is_whole = not must_be_told and (arch is None or arch == own)
        with torch.autocast(device, torch.bfloat16, enabled=reduced):
            heatmaps: Tensor = whole(*inputs) if is_whole else network(*inputs, arch)
        return heatmaps.float() if reduced else heatmaps

    return forward
