"""The architecture of a clip: a value, as `Arch` is of one network. No torch here.

A clip is a key frame and T follow-up frames. The key frame's network sees the image alone; a
follow-up network sees the image and the heatmaps of the frame before, which its fusion brings in.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal, get_args

from vipnas.arch.image import Arch
from vipnas.files import Strict, to_plain

Operation = Literal["add", "mul", "cat"]
OPERATIONS: tuple[Operation, ...] = get_args(Operation)


@dataclass(frozen=True)
class Fusion(Strict):
    """Where the heatmaps of the frame before come in, and how.

    `stage` counts the backbone's stages from 1 and goes on with the head's deconvolutions: with two
    stages, 3 is the first deconvolution. The fusion stands behind it.
    """

    stage: int
    operation: Operation

    def __post_init__(self) -> None:
        if self.stage < 1:
            raise ValueError(f"fusion.stage: found {self.stage}, allowed are whole numbers from 1")

    def __str__(self) -> str:
        return f"{self.operation} at {self.stage}"


@dataclass(frozen=True)
class FollowUp(Strict):
    """The network of one follow-up frame; without a fusion it sees its image alone."""

    arch: Arch
    fusion: Fusion | None

    def __post_init__(self) -> None:
        last = len(self.arch.stages) + len(self.arch.head)
        if self.fusion is not None and self.fusion.stage > last:
            raise ValueError(
                f"fusion.stage: found {self.fusion.stage}, allowed are 1 to {last}:"
                f" {len(self.arch.stages)} stages, then {len(self.arch.head)} deconvolutions"
            )

    def to_json(self) -> str:
        """One line, the same for equal values."""
        return json.dumps(to_plain(self), separators=(",", ":"))


@dataclass(frozen=True)
class VideoArch(Strict):
    """All that the networks of a clip are built from: of the key frame, and of each frame after it.

    Raises ValueError unless all have one input size, one heatmap size and the same joints.
    """

    key_frame: Arch
    follow_ups: tuple[FollowUp, ...]

    def __post_init__(self) -> None:
        for number, follow_up in enumerate(self.follow_ups):
            for name in ("input_hw", "heatmap_hw", "num_keypoints"):
                found, wanted = getattr(follow_up.arch, name), getattr(self.key_frame, name)
                if found != wanted:
                    raise ValueError(
                        f"follow_ups[{number}].{name}: found {found}, allowed is {wanted}, that of"
                        " the key frame"
                    )

    def __len__(self) -> int:
        """Frames of a clip: T + 1."""
        return 1 + len(self.follow_ups)

    def to_json(self) -> str:
        """One line, the same for equal archs: a key for journals."""
        return json.dumps(to_plain(self), separators=(",", ":"))

    def with_fusions_of(self, other: VideoArch) -> VideoArch:
        """Return the same networks with the fusions of another clip of the same length."""
        pairs = zip(self.follow_ups, other.follow_ups, strict=True)
        fused = tuple(FollowUp(own.arch, theirs.fusion) for own, theirs in pairs)
        return VideoArch(self.key_frame, fused)

    def without_fusion(self) -> VideoArch:
        """The same networks, each seeing its image alone."""
        alone = tuple(FollowUp(follow_up.arch, None) for follow_up in self.follow_ups)
        return VideoArch(self.key_frame, alone)
