"""The search space of clips: an architecture and a fusion per follow-up frame. No torch here."""

from __future__ import annotations

import random
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace

from vipnas.arch.clip import FollowUp, Fusion, VideoArch
from vipnas.arch.image import Arch
from vipnas.errors import UserError
from vipnas.space.genes import GeneSpace
from vipnas.space.image import SearchSpace


@dataclass(frozen=True)
class VideoSpace(GeneSpace[VideoArch]):
    """All networks of a clip whose key-frame network is given.

    The genes of a frame are those of its architecture, then one for its fusion.

    Attributes:
        key_frame: The network of the key frame.
        image_space: The space of the follow-up networks.
        fusions: The options of every follow-up frame; None is a frame that sees its image alone.
        num_follow_ups: Number of frames after the key frame.
    """

    key_frame: Arch
    image_space: SearchSpace
    fusions: tuple[Fusion | None, ...]
    num_follow_ups: int

    def __post_init__(self) -> None:
        if self.num_follow_ups < 0:
            raise UserError("num_follow_ups", "a whole number from 0", str(self.num_follow_ups))
        if not self.fusions or len(set(self.fusions)) < len(self.fusions):
            found = ", ".join(str(fusion or "none") for fusion in self.fusions) or "no fusion"
            raise UserError("fusions", "one or more different fusions", found)
        if len(self.image_space.inputs_hw) > 1:
            found = str([list(hw) for hw in self.image_space.inputs_hw])
            raise UserError("input_hw", "one size in a space of clips", found)
        for fusion in self.fusions:
            FollowUp(self.image_space.min_arch(), fusion)
        self.min_arch()

    @property
    def name(self) -> str:  # type: ignore[override]
        return f"{self.image_space.name} over {self.num_follow_ups} follow-up frames"

    @property
    def num_options(self) -> tuple[int, ...]:
        return (*self.image_space.num_options, len(self.fusions)) * self.num_follow_ups

    def sample(self, rng: random.Random) -> VideoArch:
        """Sample every choice uniformly; half of the frames then get the key frame's network.

        The key frame's network is trained already, so searches should start near it. Frames keep
        what was sampled if the space of the follow-up networks does not hold that network.
        """
        drawn = super().sample(rng)
        if self.key_frame not in self.image_space:
            return drawn
        return replace(
            drawn,
            follow_ups=tuple(
                FollowUp(self.key_frame, own.fusion) if rng.random() < 0.5 else own
                for own in drawn.follow_ups
            ),
        )

    def largest(self, rng: random.Random) -> VideoArch:
        """Return the largest networks, each with a random fusion: none is larger than another."""
        return self.max_arch().with_fusions_of(self.sample(rng))

    def smallest(self, rng: random.Random) -> VideoArch:
        """Return the smallest networks, each with a random fusion."""
        return self.min_arch().with_fusions_of(self.sample(rng))

    @property
    def choices(self) -> Set[str]:
        return self.image_space.choices

    def with_open_choices(self, open_choices: Set[str]) -> VideoSpace:
        """Return the space whose other choices keep only the option of the largest.

        Fusions stay open: none is larger than another.
        """
        return replace(self, image_space=self.image_space.with_open_choices(open_choices))

    def decode(self, genes: Sequence[int]) -> VideoArch:
        length = len(self.image_space.num_options) + 1
        frames = (genes[i * length : (i + 1) * length] for i in range(self.num_follow_ups))
        return VideoArch(
            self.key_frame,
            tuple(
                FollowUp(self.image_space.decode(frame[:-1]), self.fusions[frame[-1]])
                for frame in frames
            ),
        )

    def encode(self, arch: VideoArch) -> tuple[int, ...]:
        if arch.key_frame != self.key_frame:
            raise UserError("key_frame", "the key-frame network of this space", "another network")
        if len(arch.follow_ups) != self.num_follow_ups:
            found = str(len(arch.follow_ups))
            raise UserError("follow_ups", f"{self.num_follow_ups} frames", found)
        genes: list[int] = []
        for number, follow_up in enumerate(arch.follow_ups):
            try:
                genes += self.image_space.encode(follow_up.arch)
            except UserError as error:
                raise error.inside(f"follow_ups[{number}].arch", ".") from None
            if follow_up.fusion not in self.fusions:
                offered = ", ".join(str(fusion or "none") for fusion in self.fusions)
                found = str(follow_up.fusion or "none")
                raise UserError(f"follow_ups[{number}].fusion", f"one of {offered}", found)
            genes.append(self.fusions.index(follow_up.fusion))
        return tuple(genes)
