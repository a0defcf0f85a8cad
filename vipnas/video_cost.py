"""What the networks of a clip cost, frame by frame and on average."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch

from vipnas.arch import Arch
from vipnas.cost import MacCounter, count_cost
from vipnas.models.videonet import FusionModule, tap_of
from vipnas.results import Cost
from vipnas.video_arch import FollowUp, Operation, VideoArch

ImageCost = Callable[[Arch], Cost]


def frame_costs(arch: VideoArch, image_cost: ImageCost = count_cost) -> tuple[Cost, ...]:
    """The cost of each frame of the clip, the key frame's first; warping heatmaps is left out.

    Where `image_cost` knows latencies, a fusion is taken to add to the latency of its network what
    it adds to its MACs, in proportion.
    """
    key_frame = image_cost(arch.key_frame)
    return (key_frame, *(_follow_up_cost(member, image_cost) for member in arch.follow_ups))


def mean_cost(arch: VideoArch, image_cost: ImageCost = count_cost) -> Cost:
    """MACs and latency of a frame on average over the clip; parameters of all its networks, each
    counted once."""
    frames = frame_costs(arch, image_cost)
    members: dict[object, Cost] = dict(zip((arch.key_frame, *arch.follow_ups), frames, strict=True))
    latencies = [cost.latency_ms for cost in frames if cost.latency_ms is not None]
    return Cost(
        macs=round(sum(cost.macs for cost in frames) / len(frames)),
        params=sum(cost.params for cost in members.values()),
        latency_ms=sum(latencies) / len(frames) if len(latencies) == len(frames) else None,
    )


def _follow_up_cost(member: FollowUp, image_cost: ImageCost) -> Cost:
    alone = image_cost(member.arch)
    if member.fusion is None:
        return alone
    tap, arch = tap_of(member.arch, member.fusion.stage), member.arch
    macs, params = _fusion_cost(
        member.fusion.operation, arch.num_keypoints, arch.heatmap_hw, tap.channels, tap.hw
    )
    latency_ms = alone.latency_ms
    if latency_ms is not None:
        latency_ms *= 1 + macs / alone.macs
    return Cost(alone.macs + macs, alone.params + params, latency_ms)


@lru_cache(maxsize=1 << 16)
def _fusion_cost(
    operation: Operation,
    num_keypoints: int,
    heatmap_hw: tuple[int, int],
    channels: int,
    hw: tuple[int, int],
) -> tuple[int, int]:
    """MACs and parameters, counted as the module runs on an empty batch."""
    module = FusionModule(operation, num_keypoints, channels).eval()
    with torch.no_grad(), MacCounter() as counter:
        heatmaps = torch.empty(0, num_keypoints, *heatmap_hw)
        module(torch.empty(0, channels, *hw), heatmaps)
        module.carried(heatmaps)
    return counter.macs, sum(parameter.numel() for parameter in module.parameters())
