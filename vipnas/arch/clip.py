"""The architecture of a clip: a frozen, hashable value, as `Arch` is for an image. No torch here.

A clip is a key frame and T follow-up frames. The network of the key frame sees the image alone. A
follow-up network sees the image and, through its fusion, the heatmaps of the previous frame. A
follow-up frame may also run no network: its heatmaps are those of the previous frame, warped.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal, get_args

from vipnas.arch.image import Arch
from vipnas.errors import UserError
from vipnas.files import Strict, to_plain

Operation = Literal["add", "mul", "cat"]
OPERATIONS: tuple[Operation, ...] = get_args(Operation)
Trigger = Literal["score", "change"]
# What a follow-up frame does in place of a fusion: run no network; see its image alone.
WARP, NO_FUSION = "warp", "none"


@dataclass(frozen=True)
class Fusion(Strict):
    """Where and how a network takes in the heatmaps of the previous frame.

    Attributes:
        stage: The fusion runs after this stage. Counts the backbone's stages from 1, then the
            head's deconvolutions: with two stages, 3 is the first deconvolution.
        operation: How heatmaps and features are combined.
    """

    stage: int
    operation: Operation

    def __post_init__(self) -> None:
        if self.stage < 1:
            raise UserError("stage", "a whole number from 1", str(self.stage))

    def __str__(self) -> str:
        return f"{self.operation} at {self.stage}"


@dataclass(frozen=True)
class FollowUp(Strict):
    """The network of one follow-up frame; without a fusion it sees the image alone."""

    arch: Arch
    fusion: Fusion | None

    def __post_init__(self) -> None:
        last = len(self.arch.stages) + len(self.arch.head)
        if self.fusion is not None and self.fusion.stage > last:
            parts = f"{len(self.arch.stages)} stages, then {len(self.arch.head)} deconvolutions"
            raise UserError("fusion.stage", f"1 to {last}", str(self.fusion.stage), parts)

    def to_json(self) -> str:
        """Return one line of JSON, the same for equal values."""
        return json.dumps(to_plain(self), separators=(",", ":"))


@dataclass(frozen=True)
class VideoArch(Strict):
    """Everything that the networks of a clip are built from: one per frame, the key frame first.

    Attributes:
        key_frame: The network of the key frame.
        follow_ups: Those of the frames after it, in temporal order; None is a frame without a
            network, which takes the warped heatmaps of the frame before.

    Raises:
        UserError: If they differ in aspect ratio, stride of the heatmaps or number of joints.
    """

    key_frame: Arch
    follow_ups: tuple[FollowUp | None, ...]

    def __post_init__(self) -> None:
        for number, follow_up in enumerate(self.follow_ups):
            if follow_up is not None:
                self._check_fits(follow_up.arch, f"follow_ups[{number}]")
        if self.key_frame.simcc is not None:
            hint = "a frame takes in the heatmaps of the previous one"
            raise UserError("key_frame.simcc", "null in a clip", "a SimCC head", hint)

    def _check_fits(self, own: Arch, place: str) -> None:
        """Raise UserError unless heatmaps can be warped between the key frame and a network."""
        key = self.key_frame
        (height, width), (key_height, key_width) = own.input_hw, key.input_hw
        if height * key_width != width * key_height:
            expected = f"the aspect ratio of {key.input_hw} as in the key frame"
            raise UserError(f"{place}.input_hw", expected, str(own.input_hw))
        if own.heatmap_hw[0] * key_height != key.heatmap_hw[0] * height:
            expected = f"the stride of {key.heatmap_hw} as in the key frame"
            raise UserError(f"{place}.heatmap_hw", expected, str(own.heatmap_hw))
        if own.num_keypoints != key.num_keypoints:
            expected = f"{key.num_keypoints} as in the key frame"
            raise UserError(f"{place}.num_keypoints", expected, str(own.num_keypoints))

    def __len__(self) -> int:
        """Return the number of frames of a clip, T + 1."""
        return 1 + len(self.follow_ups)

    @property
    def largest(self) -> Arch:
        """The network with the largest input, at which crops of the clip are made."""
        archs = (self.key_frame, *(own.arch for own in self.follow_ups if own is not None))
        return max(archs, key=lambda arch: arch.input_hw)

    def sized_as(self, distance: int) -> Arch:
        """Return the network whose sizes a frame has, by its distance from the key frame.

        It is the last that ran. Beyond the last frame, the follow-up networks run in turn.
        """
        while distance > 0:
            follow_up = self.follow_ups[(distance - 1) % len(self.follow_ups)]
            if follow_up is not None:
                return follow_up.arch
            distance -= 1
        return self.key_frame

    def to_json(self) -> str:
        """Return one line of JSON, the same for equal architectures."""
        return json.dumps(to_plain(self), separators=(",", ":"))

    def with_fusions_of(self, other: VideoArch) -> VideoArch:
        """Return the same networks with the fusions of another clip of the same length."""
        pairs = zip(self.follow_ups, other.follow_ups, strict=True)
        fused = (
            None if own is None else FollowUp(own.arch, None if theirs is None else theirs.fusion)
            for own, theirs in pairs
        )
        return VideoArch(self.key_frame, tuple(fused))

    def without_fusion(self) -> VideoArch:
        """Return the same networks without fusions: each sees its image alone."""
        alone = (None if own is None else FollowUp(own.arch, None) for own in self.follow_ups)
        return VideoArch(self.key_frame, tuple(alone))


@dataclass(frozen=True)
class KeyFrameRule(Strict):
    """When a person has a key frame by need (`vipnas.evaluation.key_frames`).

    Attributes:
        trigger: What shows the need: a low `score` of the pose in the previous frame, or the
            `change` of the crop since the key frame.
        threshold: A need above this one brings a key frame; 0 to 1.
        max_interval: Frames from one key frame to the next, at most.
    """

    trigger: Trigger
    threshold: float
    max_interval: int

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise UserError("threshold", "0 to 1", f"{self.threshold:g}")
        if self.max_interval < 1:
            raise UserError("max_interval", "a whole number from 1", str(self.max_interval))

    def __str__(self) -> str:
        return (
            f"by need: {self.trigger} above {self.threshold:.3f}, or after"
            f" {self.max_interval} frames"
        )


def fusion_name(follow_up: FollowUp | None) -> str:
    """Return how a frame takes in the heatmaps of the previous frame, as settings name it."""
    return WARP if follow_up is None else str(follow_up.fusion or NO_FUSION)


def fusion_in_words(follow_up: FollowUp | None) -> str:
    """Return how a frame takes in the heatmaps of the previous frame, for readers."""
    return "no network" if follow_up is None else str(follow_up.fusion or "no fusion")
