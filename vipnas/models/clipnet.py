"""The networks of a clip: that of the key frame, and those of the follow-up frames.

A key frame's network takes an image; the others also take the heatmaps of the frame before. Like
`PoseNet`, `FollowUpNet` is one class for the supernet and for every stand-alone network. The
supernet is built at the largest architecture with all fusions. All follow-up frames share its
weights. The subnet to run is an argument of `forward`.

B batch, C channels, K keypoints, H W height and width of the heatmaps, T follow-up frames of a
clip, F = T + 1 its frames.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from vipnas.arch.clip import FollowUp, Fusion, VideoArch
from vipnas.arch.image import Arch
from vipnas.models.elastic import ElasticLayer
from vipnas.models.fusion import FusionModule, module_name, tap_of
from vipnas.models.posenet import PoseNet, extract, segments
from vipnas.models.propagation import frames_of, propagate


class FollowUpNet(nn.Module):
    """Compute heatmaps from an image and the heatmaps of the frame before.

    Built at the largest architecture with several fusions, it is the supernet of the follow-up
    frames. With one fusion or none, it is a stand-alone network.
    """

    def __init__(
        self, arch: Arch, fusions: Sequence[Fusion | None], initialise: bool = True
    ) -> None:
        """Build the network, with the modules of all `fusions`; None needs no module."""
        super().__init__()
        self.fusions = tuple(fusion for fusion in fusions if fusion is not None)
        self.follow_up = FollowUp(arch, self.fusions[0] if self.fusions else None)
        self.posenet = PoseNet(arch, initialise)
        self.fusion_modules = nn.ModuleDict()
        for fusion in self.fusions:
            FollowUp(arch, fusion)  # raises UserError for an unknown stage
            channels = tap_of(arch, fusion.stage).channels
            module = FusionModule(fusion.operation, arch.num_keypoints, channels)
            if initialise:
                module.reset_parameters()
            self.fusion_modules[module_name(fusion)] = module

    def forward(
        self, images_B3HW: Tensor, before_BKHW: Tensor, follow_up: FollowUp | None = None
    ) -> Tensor:
        """Compute heatmaps.

        Args:
            images_B3HW: Normalised images (B, 3, H, W).
            before_BKHW: Heatmaps of the frame before, warped to this frame's crop. Unused without a
                fusion.
            follow_up: The subnet to run. None runs the network as it was built, which must then
                have one fusion or none.

        Returns:
            Heatmaps (B, K, h, w).
        """
        assert follow_up is not None or len(self.fusions) <= 1, (
            "a supernet must be told what to run"
        )
        follow_up = follow_up or self.follow_up
        x, fusion = images_B3HW, self._fusion_of(follow_up)
        place = None if follow_up.fusion is None else follow_up.fusion.stage
        for number, segment in enumerate(segments(follow_up.arch)):
            for layer in segment.layers():
                x = self.posenet.layers[layer.name](x, layer.arch)
            if fusion is not None and number == place:
                x = fusion(x, before_BKHW)
        if fusion is not None:
            x = x + fusion.residual(before_BKHW)
        if follow_up.arch != self.follow_up.arch:
            self.posenet.guard(x)
        return x

    def of_frames(self, num_follow_ups: int) -> list[FollowUpNet | None]:
        """Return the network of each follow-up frame: all are this one."""
        return [self] * num_follow_ups

    def _fusion_of(self, follow_up: FollowUp) -> FusionModule | None:
        if follow_up.fusion is None:
            return None
        module = self.fusion_modules[module_name(follow_up.fusion)]
        assert isinstance(module, FusionModule)
        return module


def extract_follow_up(supernet: FollowUpNet, follow_up: FollowUp) -> FollowUpNet:
    """Return a stand-alone network with the weights of a subnet.

    They are those that `supernet(images, before, follow_up)` uses. See `extract`.
    """
    network = FollowUpNet(follow_up.arch, [follow_up.fusion], initialise=False)
    network.posenet = extract(supernet.posenet, follow_up.arch)
    parameter = next(supernet.parameters())
    network.to(parameter.device, parameter.dtype)
    for name, layer in network.fusion_modules.named_modules():
        if isinstance(layer, ElasticLayer):
            layer.inherit(supernet.fusion_modules.get_submodule(name))
    return network.train(supernet.training)


class FollowUpNets(nn.Module):
    """The networks of all follow-up frames of a clip, in temporal order.

    None is a frame without a network: its heatmaps are the warped ones of the frame before.
    """

    def __init__(self, networks: Sequence[FollowUpNet | None]) -> None:
        super().__init__()
        self.networks = nn.ModuleDict(
            {str(number): network for number, network in enumerate(networks) if network is not None}
        )
        self.archs = tuple(None if network is None else network.follow_up for network in networks)

    def __len__(self) -> int:
        return len(self.archs)

    def __getitem__(self, number: int) -> FollowUpNet | None:
        if self.archs[number] is None:
            return None
        network = self.networks[str(number)]
        assert isinstance(network, FollowUpNet)
        return network

    def __iter__(self) -> Iterator[FollowUpNet | None]:
        return (self[number] for number in range(len(self)))

    def of_frames(self, num_follow_ups: int) -> list[FollowUpNet | None]:
        """Return the network of each follow-up frame."""
        assert num_follow_ups == len(self)
        return list(self)

    def forward(self, distance: int, images_B3HW: Tensor, before_BKHW: Tensor) -> Tensor:
        """Return the heatmaps of the follow-up frame at `distance` from the key frame, from 1.

        Beyond the last, the networks run in turn.
        """
        network = self[(distance - 1) % len(self)]
        heatmaps: Tensor = before_BKHW if network is None else network(images_B3HW, before_BKHW)
        return heatmaps


class ClipNetworks(nn.Module):
    """The networks of a clip: a `VideoNet`, or exported files in its place."""

    key_frame: nn.Module

    @property
    def arch(self) -> VideoArch:
        """The architectures of all."""
        raise NotImplementedError

    def run_frame(self, distance: int, images_B3HW: Tensor, before_BKHW: Tensor | None) -> Tensor:
        """Return the heatmaps of a frame by its distance from the key frame."""
        raise NotImplementedError


class VideoNet(ClipNetworks):
    """All networks of a clip. Without follow-up frames, it is the key frame's network alone."""

    key_frame: PoseNet

    def __init__(self, key_frame: PoseNet, follow_ups: FollowUpNets | None = None) -> None:
        super().__init__()
        self.key_frame = key_frame
        self.follow_ups = FollowUpNets([]) if follow_ups is None else follow_ups

    @property
    def arch(self) -> VideoArch:
        return VideoArch(self.key_frame.arch, self.follow_ups.archs)

    def repeated(self, num_follow_ups: int) -> VideoNet:
        """Return the same networks for clips of another length; follow-up networks repeat."""
        length = len(self.follow_ups)
        networks = [self.follow_ups[number % length] for number in range(num_follow_ups)]
        return VideoNet(self.key_frame, FollowUpNets(networks))

    def run_frame(self, distance: int, images_B3HW: Tensor, before_BKHW: Tensor | None) -> Tensor:
        """Return the heatmaps of a frame by its distance from the key frame."""
        if before_BKHW is None:
            heatmaps: Tensor = self.key_frame(images_B3HW)
        else:
            heatmaps = self.follow_ups(distance, images_B3HW, before_BKHW)
        return heatmaps

    def forward(self, images_BF3HW: Tensor, warps_BT23: Tensor) -> Tensor:
        """Compute heatmaps, where all networks take inputs of one size.

        Args:
            images_BF3HW: Normalised images (B, F, 3, H, W).
            warps_BT23: As in `warp_heatmaps`, per follow-up frame.

        Returns:
            Heatmaps (B, F, K, h, w).
        """
        frames = frames_of(images_BF3HW, warps_BT23)
        return torch.stack(tuple(propagate(self.run_frame, frames)), dim=1)


def build_video_net(arch: VideoArch, initialise: bool = True) -> VideoNet:
    """Build the stand-alone networks of a clip."""
    networks = [
        None if one is None else FollowUpNet(one.arch, [one.fusion], initialise)
        for one in arch.follow_ups
    ]
    return VideoNet(PoseNet(arch.key_frame, initialise), FollowUpNets(networks))


def extract_video(key_frame: PoseNet, supernet: FollowUpNet, arch: VideoArch) -> VideoNet:
    """Return the networks of a clip: that of the key frame itself, the others from the supernet."""
    assert key_frame.arch == arch.key_frame
    networks = [
        None if one is None else extract_follow_up(supernet, one) for one in arch.follow_ups
    ]
    return VideoNet(key_frame, FollowUpNets(networks))
