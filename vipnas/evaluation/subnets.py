"""Extract a subnet of a supernet, with batch-norm statistics of its own.

The statistics of a supernet fit none of its subnets, not even the largest. They are re-measured on
crops, unless the subnet is trained next.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from vipnas.arch.clip import VideoArch
from vipnas.arch.image import Arch
from vipnas.arch.skeleton import Skeleton
from vipnas.evaluation.evaluator import calibrate_bn
from vipnas.models.clipnet import FollowUpNet, FollowUpNets, extract_follow_up
from vipnas.models.posenet import PoseNet, extract
from vipnas.space.clip import VideoSpace
from vipnas.space.image import SearchSpace


@dataclass(frozen=True)
class Calibration:
    """The crops that batch norm is measured on.

    Attributes:
        images: Returns uint8 crops (N, 3, H, W).
        batch_size: How many crops run at a time.
        skeleton: The joints of the data.
        on: Names the crops in the header of a file.
    """

    images: Callable[[], Tensor]
    batch_size: int
    skeleton: Skeleton
    on: str


def take_subnet(
    supernet: PoseNet,
    space: SearchSpace,
    arch: Arch,
    calibration_images_N3HW: Tensor | None,
    batch_size: int,
    place: str,
) -> PoseNet:
    """Return a stand-alone network with the supernet's weights, in evaluation mode.

    Args:
        space: What the supernet was trained for. All fields of `arch` must be offered by it.
        calibration_images_N3HW: uint8 crops that batch norm is measured on. None skips this, for
            a network that is trained next.
        batch_size: How many crops are run at a time.
        place: What an error names: the file of the supernet or of the architecture.

    Raises:
        UserError: The space does not offer some fields; the error names them all.
    """
    space.check_arch(arch, place)
    subnet = extract(supernet, arch).eval()
    if calibration_images_N3HW is not None:
        calibrate_bn(subnet, calibration_images_N3HW, batch_size)
    return subnet


def take_clip(
    supernet: FollowUpNet | FollowUpNets,
    space: VideoSpace,
    arch: VideoArch,
    calibrate: Callable[[FollowUpNets], None] | None,
    place: str,
) -> FollowUpNets:
    """Return the follow-up networks of a clip, as `take_subnet` does for an image network.

    Args:
        supernet: The supernet of all follow-up frames, or a network for each of them.
        space: What it was trained for.
        arch: The networks to take; a frame without one needs no weights.
        calibrate: Measures their batch norm (`vipnas.evaluation.clips.calibrate_along`).
        place: What an error names.
    """
    space.check_arch(arch, place)
    of_frames = supernet.of_frames(len(arch.follow_ups))
    extracted = [
        None if own is None or one is None else extract_follow_up(own, one)
        for own, one in zip(of_frames, arch.follow_ups, strict=True)
    ]
    networks = FollowUpNets(extracted).eval()
    if calibrate is not None:
        calibrate(networks)
    return networks
