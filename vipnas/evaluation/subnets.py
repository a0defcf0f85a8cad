"""The one door from a supernet to a subnet: who may pass, and with which batch-norm statistics.

A supernet's own statistics are those of no subnet, its largest included: they are measured on
crops, or the subnet is only the start of a training.
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
    """What batch norm is measured on: uint8 crops (N, 3, H, W), made when first needed.

    `on` names them for the header of a file.
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
    """A stand-alone network with the supernet's weights, on its device, in evaluation mode.

    Args:
        space: What the supernet was trained for. All fields of `arch` must be offered by it.
        calibration_images_N3HW: uint8 crops that batch norm is measured on. None leaves statistics
            that are of no use, for a network that is trained next.
        batch_size: How many crops are run at a time.
        place: What an error names: the file of the supernet or of the arch.

    Raises:
        ValueError: Names all fields that the space does not offer.
    """
    space.check_arch(arch, place)
    subnet = extract(supernet, arch).eval()
    if calibration_images_N3HW is not None:
        calibrate_bn(subnet, calibration_images_N3HW, batch_size)
    return subnet


def take_clip(
    supernet: FollowUpNet,
    space: VideoSpace,
    arch: VideoArch,
    calibrate: Callable[[FollowUpNets], None] | None,
    place: str,
) -> FollowUpNets:
    """`take_subnet` for the follow-up networks of a clip.

    `calibrate` measures their batch norm along clips (`vipnas.evaluation.clips.calibrate_along`).
    """
    space.check_arch(arch, place)
    networks = FollowUpNets([extract_follow_up(supernet, member) for member in arch.follow_ups])
    networks.eval()
    if calibrate is not None:
        calibrate(networks)
    return networks
