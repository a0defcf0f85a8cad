"""The pose network: one class for the supernet and for every stand-alone network.

The list of layers is defined once, in `plan`. Building, running, extracting and counting all use
it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from vipnas.arch.image import Arch, DeconvArch, StageArch, StemArch
from vipnas.models.blocks import (
    Deconv,
    HeatmapConv,
    InvertedResidualBlock,
    ResidualBlock,
    SimccHead,
    SimccShape,
    Stem,
)
from vipnas.models.elastic import (
    ElasticConv2d,
    ElasticDeconv2d,
    ElasticLayer,
    not_sliceable,
)
from vipnas.models.slicing import check_gradients_are_kept, crop

PartArch: TypeAlias = StemArch | StageArch | DeconvArch | SimccShape | int
BLOCKS: dict[str, type[nn.Module]] = {
    "residual": ResidualBlock,
    "inverted_residual": InvertedResidualBlock,
}


class Layer(NamedTuple):
    """One entry of a network's plan. It is hashable; equal entries have equal costs."""

    name: str
    kind: type[nn.Module]
    arch: PartArch
    in_channels: int
    in_hw: tuple[int, int]
    first: bool | None = None

    def build(self) -> nn.Module:
        """Build the module at the size of this entry."""
        position = () if self.first is None else (self.first,)
        return self.kind(self.arch, self.in_channels, *position)


class Segment(NamedTuple):
    """A stem, a stage, a deconvolution, or what gives heatmaps or coordinates."""

    name: str
    kind: type[nn.Module]
    arch: PartArch
    in_channels: int
    in_hw: tuple[int, int]

    def layers(self) -> Iterator[Layer]:
        """Yield the layers in the order they run; for a stage, the first `depth` blocks."""
        if not isinstance(self.arch, StageArch):
            yield Layer(self.name, self.kind, self.arch, self.in_channels, self.in_hw)
            return
        channels, (height, width) = self.in_channels, self.in_hw
        for block in range(self.arch.depth):
            name, first = f"{self.name}_block{block + 1}", block == 0
            yield Layer(name, self.kind, self.arch, channels, (height, width), first)
            if first:
                height, width = height // self.arch.stride, width // self.arch.stride
                channels = self.arch.width


def segments(arch: Arch) -> Iterator[Segment]:
    """Yield the segments of a network in the order they run, which is defined here only."""
    height, width = arch.input_hw
    yield Segment("stem", Stem, arch.stem, 3, (height, width))
    height, width = height // arch.stem.stride, width // arch.stem.stride
    channels = arch.stem.width
    for number, stage in enumerate(arch.stages, start=1):
        yield Segment(f"stage{number}", BLOCKS[arch.family], stage, channels, (height, width))
        height, width = height // stage.stride, width // stage.stride
        channels = stage.width
    for number, deconv in enumerate(arch.head, start=1):
        yield Segment(f"deconv{number}", Deconv, deconv, channels, (height, width))
        height, width = height * 2, width * 2
        channels = deconv.width
    last_hw, joints = (height, width), arch.num_keypoints
    if arch.simcc is None:
        yield Segment("heatmaps", HeatmapConv, joints, channels, last_hw)
    else:
        shape = SimccShape(joints, arch.simcc.kernel_size, last_hw, arch.bins_xy)
        yield Segment("simcc", SimccHead, shape, channels, last_hw)


def plan(arch: Arch) -> Iterator[Layer]:
    """Yield the layers of a network in the order they run."""
    for segment in segments(arch):
        yield from segment.layers()


class PoseNet(nn.Module):
    """Compute heatmaps, or with a SimCC head the logits of coordinates, from images.

    Built at `space.max_arch()`, it is the supernet. At any other architecture, it is a stand-alone
    network.

    Args:
        arch: The architecture to build.
        initialise: Whether to initialise the weights. If False, the memory of convolutions is left
            uninitialised, for callers that fill every tensor.
    """

    def __init__(self, arch: Arch, initialise: bool = True) -> None:
        super().__init__()
        self.arch = arch
        self.layers = nn.ModuleDict({layer.name: layer.build() for layer in plan(arch)})
        if initialise:
            for module in self.modules():
                if isinstance(module, (ElasticConv2d, ElasticDeconv2d)):
                    module.reset_parameters()

    def forward(self, images_B3HW: Tensor, arch: Arch | None = None) -> Tensor:
        """Compute heatmaps.

        Backward of a smaller architecture adds to the gradients that the parameters have during
        forward. Clear them before forward, not after.

        Args:
            images_B3HW: Normalised images (B, 3, H, W).
            arch: The subnet to run, not larger than the network. None runs the network as it was
                built.

        Returns:
            Heatmaps (B, K, h, w); of a SimCC head (B, K, 1, X + Y).
        """
        x = images_B3HW
        for layer in plan(arch or self.arch):
            x = self.layers[layer.name](x, layer.arch)
        if arch not in (None, self.arch):
            self.guard(x)
        return x

    def guard(self, heatmaps_BKHW: Tensor) -> None:
        """Make backward from the heatmaps of a subnet raise if its gradients would be lost.

        See `check_gradients_are_kept`.
        """
        if heatmaps_BKHW.requires_grad:
            stem = self.layers["stem"]
            assert isinstance(stem, Stem)
            check_gradients_are_kept(heatmaps_BKHW, stem.conv.weight)


def extract(supernet: PoseNet, arch: Arch) -> PoseNet:
    """Return a stand-alone network with the weights that `supernet(images, arch)` uses.

    It is on the same device and in the same mode. Batch-norm statistics are sliced too. They are
    valid for the supernet's own architecture; re-measure them for any other (`calibrate_bn`).
    """
    parameter = next(supernet.parameters())
    subnet = PoseNet(arch, initialise=False).to(parameter.device, parameter.dtype)
    for name, layer in subnet.named_modules():
        if isinstance(layer, ElasticLayer):
            layer.inherit(supernet.get_submodule(name))
    return subnet.train(supernet.training)


@torch.no_grad()
def insert(network: PoseNet, supernet: PoseNet) -> None:
    """Write the weights of a network into the supernet, the inverse of `extract`.

    Raises:
        UserError: If the supernet is smaller than the network.
    """
    for name, layer in network.named_modules():
        if not isinstance(layer, ElasticLayer):
            continue
        full = supernet.get_submodule(name)
        assert isinstance(full, ElasticLayer)
        for tensor_name, tensor in layer.own_tensors():
            target = getattr(full, tensor_name)
            if any(have < need for have, need in zip(target.shape, tensor.shape, strict=True)):
                raise not_sliceable(name, target, tensor)
            numbers = torch.arange(target.numel(), device=target.device).view(target.shape)
            places = crop(numbers, tensor.shape, layer.groups, full.groups)
            target.view(-1)[places.flatten()] = tensor.flatten()
