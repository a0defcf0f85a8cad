"""The cost of an architecture: multiply-accumulates and parameters, counted as the layers run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from vipnas.arch.clip import FollowUp, Operation, VideoArch
from vipnas.arch.image import Arch
from vipnas.models.fusion import FusionModule, tap_of
from vipnas.models.posenet import Layer, Segment, plan, segments
from vipnas.quantities import Cost, cost_of_clip


def count_cost(arch: Arch) -> Cost:
    """Count the MACs for one image, and the parameters.

    MACs are those of convolutions, linear layers and the matrix products of attention. One
    multiply-add is one MAC; bias additions count nothing. Batch norm is left out because it folds
    into the convolution before it; so are activations, pooling and softmax. Parameters are all that
    training learns, including batch-norm scales and shifts.
    """
    costs = [cost for _, cost in segment_costs(arch)]
    return Cost(sum(cost.macs for cost in costs), sum(cost.params for cost in costs))


def segment_costs(arch: Arch) -> list[tuple[Segment, Cost]]:
    """Return the segments of a network in the order they run, each with its cost."""
    return [(segment, segment_cost(segment)) for segment in segments(arch)]


class LayerCost(NamedTuple):
    """The cost of one layer for one image, and the shape of its output: channels, height, width."""

    macs: int
    params: int
    output_chw: tuple[int, ...]


def layer_costs(arch: Arch) -> list[tuple[Layer, LayerCost]]:
    """Return the layers of a network in the order they run, each with its cost."""
    return [(layer, _layer_cost(layer._replace(name=""))) for layer in plan(arch)]


@lru_cache(maxsize=1 << 20)
def segment_cost(segment: Segment) -> Cost:
    """Return the cost of one segment for one image."""
    costs = [_layer_cost(layer._replace(name="")) for layer in segment.layers()]
    return Cost(sum(cost.macs for cost in costs), sum(cost.params for cost in costs))


@lru_cache(maxsize=1 << 20)
def _layer_cost(layer: Layer) -> LayerCost:
    """Run the layer on an empty batch: shapes propagate, nothing is computed."""
    module = layer.build().eval()
    with torch.no_grad(), MacCounter() as counter:
        output = module(torch.empty(0, layer.in_channels, *layer.in_hw), layer.arch)
    params = sum(parameter.numel() for parameter in module.parameters())
    return LayerCost(counter.macs, params, tuple(output.shape[1:]))


def _conv_macs(out: Tensor, x: Tensor, weight: Tensor, *_: Any) -> int:
    return weight.numel() * out.shape[2:].numel()


def _deconv_macs(out: Tensor, x: Tensor, weight: Tensor, *_: Any) -> int:
    return weight.numel() * x.shape[2:].numel()


def _matmul_macs(out: Tensor, left: Tensor, right: Tensor) -> int:
    return out.shape[1:].numel() * left.shape[-1]


MACS_OF_OPERATION: dict[Any, Callable[..., int]] = {
    F.conv2d: _conv_macs,
    F.conv_transpose2d: _deconv_macs,
    F.linear: lambda out, x, weight, *_: weight.numel() * out.shape[1:-1].numel(),
    **dict.fromkeys((torch.matmul, Tensor.matmul, Tensor.__matmul__), _matmul_macs),
}
# Products without a formula: an error is better than a cost of zero.
UNKNOWN_PRODUCTS = {
    F.conv1d,
    F.conv3d,
    F.conv_transpose1d,
    F.conv_transpose3d,
    F.bilinear,
    F.scaled_dot_product_attention,
    F.multi_head_attention_forward,
    torch.einsum,
    torch.tensordot,
    *(
        getattr(place, name)
        for place in (torch, Tensor)
        for name in ("mm", "bmm", "mv", "addmm", "addbmm", "baddbmm")
    ),
}


class MacCounter(TorchFunctionMode):
    """A context that adds up the MACs per image of every product that runs in it."""

    def __init__(self) -> None:
        super().__init__()
        self.macs = 0

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if func in MACS_OF_OPERATION:
            self.macs += MACS_OF_OPERATION[func](out, *args)
        assert func not in UNKNOWN_PRODUCTS, f"count_cost has no formula for {func}"
        return out


ImageCost = Callable[[Arch], Cost]


def frame_costs(arch: VideoArch, image_cost: ImageCost = count_cost) -> tuple[Cost, ...]:
    """Return the cost of each frame of the clip, the key frame's first.

    Warping heatmaps is left out: a frame without a network costs nothing. A fusion is assumed to
    add to latency, and to other measured quantities, in proportion to its MACs.
    """
    key_frame = image_cost(arch.key_frame)
    follow_ups = (
        key_frame.zero() if follow_up is None else _follow_up_cost(follow_up, image_cost)
        for follow_up in arch.follow_ups
    )
    return (key_frame, *follow_ups)


def mean_cost(arch: VideoArch, image_cost: ImageCost = count_cost) -> Cost:
    """Return the mean cost of a frame, with the parameters of all distinct networks."""
    frames = frame_costs(arch, image_cost)
    networks: dict[object, Cost] = dict(
        zip((arch.key_frame, *arch.follow_ups), frames, strict=True)
    )
    return cost_of_clip(frames, list(networks.values()))


def cost_at(arch: VideoArch, distances: Sequence[int]) -> Cost:
    """Return the mean cost of frames at these distances from their key frames.

    Beyond the last, the follow-up networks run in turn.
    """
    key_frame, *follow_ups = frame_costs(arch)
    costs = [
        follow_ups[(distance - 1) % len(follow_ups)] if distance else key_frame
        for distance in distances
    ]
    return cost_of_clip(costs, [mean_cost(arch)])


def _follow_up_cost(follow_up: FollowUp, image_cost: ImageCost) -> Cost:
    alone = image_cost(follow_up.arch)
    if follow_up.fusion is None:
        return alone
    tap, arch = tap_of(follow_up.arch, follow_up.fusion.stage), follow_up.arch
    macs, params = _fusion_cost(
        follow_up.fusion.operation, arch.num_keypoints, arch.heatmap_hw, tap.channels, tap.hw
    )
    share = 1 + macs / alone.macs
    return Cost(
        macs=alone.macs + macs,
        params=alone.params + params,
        latency_ms=None if alone.latency_ms is None else alone.latency_ms * share,
        others={name: value * share for name, value in alone.others.items()},
    )


@lru_cache(maxsize=1 << 16)
def _fusion_cost(
    operation: Operation,
    num_keypoints: int,
    heatmap_hw: tuple[int, int],
    channels: int,
    hw: tuple[int, int],
) -> tuple[int, int]:
    """Return MACs and parameters, counted while the module runs on an empty batch."""
    module = FusionModule(operation, num_keypoints, channels).eval()
    with torch.no_grad(), MacCounter() as counter:
        heatmaps = torch.empty(0, num_keypoints, *heatmap_hw)
        module(torch.empty(0, channels, *hw), heatmaps)
        module.residual(heatmaps)
    return counter.macs, sum(parameter.numel() for parameter in module.parameters())
