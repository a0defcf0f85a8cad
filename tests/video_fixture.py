"""Clip spaces and networks small enough to try all of them."""

from __future__ import annotations

from vipnas.arch.clip import OPERATIONS, Fusion
from vipnas.models.clipnet import FollowUpNet
from vipnas.models.posenet import PoseNet
from vipnas.space.clip import VideoSpace
from vipnas.space.image import SearchSpace


def all_fusions(space: SearchSpace) -> tuple[Fusion, ...]:
    """Every operation behind every stage and every deconvolution."""
    arch = space.max_arch()
    last = len(arch.stages) + len(arch.head)
    return tuple(
        Fusion(stage, operation) for stage in range(1, last + 1) for operation in OPERATIONS
    )


def video_space_of(space: SearchSpace, num_follow_ups: int = 2, warp: bool = False) -> VideoSpace:
    """Return a space of clips, whose frames all have the largest input size."""
    space = space.with_facts(input_hw=space.input_hw)
    fusions = (None, *all_fusions(space))
    return VideoSpace(space.max_arch(), space, fusions, num_follow_ups, warp)


def video_supernet(space: SearchSpace) -> tuple[PoseNet, FollowUpNet]:
    """The key frame's network and the supernet of the follow-up frames, as freshly built."""
    return PoseNet(space.max_arch()), FollowUpNet(space.max_arch(), all_fusions(space))
