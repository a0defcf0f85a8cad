"""The search space of the temporal level: of every follow-up frame an architecture and a fusion. No
torch here."""

from __future__ import annotations

import random
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace

from vipnas.arch.clip import FollowUp, Fusion, VideoArch
from vipnas.arch.image import Arch
from vipnas.space.genes import GeneSpace
from vipnas.space.image import SearchSpace


@dataclass(frozen=True)
class VideoSpace(GeneSpace[VideoArch]):
    """All clips of `num_follow_ups` frames after a key frame whose network is given.

    `image_space` is that of the follow-up networks. `fusions` are the options of every frame, each
    frame choosing its own; None is a frame that sees its image alone. A frame's genes are those of
    its arch, then one for its fusion.
    """

    key_frame: Arch
    image_space: SearchSpace
    fusions: tuple[Fusion | None, ...]
    num_follow_ups: int

    def __post_init__(self) -> None:
        if self.num_follow_ups < 0:
            raise ValueError(f"num_follow_ups: found {self.num_follow_ups}, allowed are 0 and more")
        if not self.fusions or len(set(self.fusions)) < len(self.fusions):
            raise ValueError("fusions: allowed are one or more, each once")
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
        """Draw every choice uniformly, and then, where the space of the follow-up networks holds
        the key frame's own, a fair coin for each frame whether it has that network instead.

        It is the one that is trained already: the supernet keeps it, and searches begin around it.
        """
        drawn = super().sample(rng)
        if self.key_frame not in self.image_space:
            return drawn
        return replace(
            drawn,
            follow_ups=tuple(
                FollowUp(self.key_frame, member.fusion) if rng.random() < 0.5 else member
                for member in drawn.follow_ups
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
            raise ValueError("key_frame: found another network than that of this space")
        if len(arch.follow_ups) != self.num_follow_ups:
            raise ValueError(
                f"follow_ups: found {len(arch.follow_ups)}, allowed are {self.num_follow_ups}"
            )
        genes: list[int] = []
        for number, follow_up in enumerate(arch.follow_ups):
            try:
                genes += self.image_space.encode(follow_up.arch)
            except ValueError as error:
                raise ValueError(f"follow_ups[{number}]: {error}") from None
            if follow_up.fusion not in self.fusions:
                offered = ", ".join(str(fusion or "none") for fusion in self.fusions)
                raise ValueError(
                    f"follow_ups[{number}].fusion: found {follow_up.fusion or 'none'},"
                    f" allowed are {offered}"
                )
            genes.append(self.fusions.index(follow_up.fusion))
        return tuple(genes)
