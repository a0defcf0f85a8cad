"""The search space of clips: an architecture and a fusion per follow-up frame. No torch here."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

from vipnas.arch.clip import NO_FUSION, WARP, FollowUp, Fusion, VideoArch, fusion_name
from vipnas.arch.image import Arch
from vipnas.errors import UserError
from vipnas.files import to_plain
from vipnas.space.genes import GeneSpace
from vipnas.space.image import SearchSpace


@dataclass(frozen=True)
class VideoSpace(GeneSpace[VideoArch]):
    """All networks of a clip whose key-frame network is given.

    The genes of a frame are those of its architecture, then one for its fusion. Where `warp` is
    offered, it is the first option of that gene, and the others of the frame then mean nothing.

    Attributes:
        key_frame: The network of the key frame.
        image_space: The space of the follow-up networks; each has an input size of its own.
        fusions: The options of every follow-up frame; None is a frame that sees its image alone.
        num_follow_ups: Number of frames after the key frame.
        warp: Whether a follow-up frame may run no network, and take the warped heatmaps of the
            frame before.
    """

    key_frame: Arch
    image_space: SearchSpace
    fusions: tuple[Fusion | None, ...]
    num_follow_ups: int
    warp: bool = False

    def __post_init__(self) -> None:
        if self.num_follow_ups < 0:
            raise UserError("num_follow_ups", "a whole number from 0", str(self.num_follow_ups))
        if not self.fusions or len(set(self.fusions)) < len(self.fusions):
            found = ", ".join(self.fusion_names) or "no fusion"
            raise UserError("fusions", "one or more different fusions", found)
        for fusion in self.fusions:
            FollowUp(self.image_space.min_arch(), fusion)
        self.max_arch()  # has a network in every frame, to be compared with that of the key frame

    @property
    def name(self) -> str:  # type: ignore[override]
        return f"{self.image_space.name} over {self.num_follow_ups} follow-up frames"

    @property
    def fusion_names(self) -> list[str]:
        """The options of the last gene of a frame, by name."""
        return [WARP] * self.warp + [str(fusion or NO_FUSION) for fusion in self.fusions]

    def to_plain(self) -> dict[str, Any]:
        """Return everything but the name of the follow-up space, equal for equal spaces."""
        return {
            "key_frame": to_plain(self.key_frame),
            "space": self.image_space.to_plain(),
            "fusions": self.fusion_names,
            "num_follow_ups": self.num_follow_ups,
        }

    @property
    def num_parts(self) -> int:  # type: ignore[override]
        return max(self.num_follow_ups, 1)

    @property
    def num_options(self) -> tuple[int, ...]:
        last = len(self.fusions) + self.warp
        return (*self.image_space.num_options, last) * self.num_follow_ups

    @property
    def size(self) -> int:
        num_options = self.image_space.size * len(self.fusions) + self.warp
        return math.prod([num_options] * self.num_follow_ups)

    def sample(self, rng: random.Random) -> VideoArch:
        """Sample every choice uniformly; half of the networks are then that of the key frame.

        The key frame's network is trained already, so searches should start near it. Frames keep
        what was sampled if the space of the follow-up networks does not hold that network.
        """
        drawn = super().sample(rng)
        if self.key_frame not in self.image_space:
            return drawn
        return replace(
            drawn,
            follow_ups=tuple(
                FollowUp(self.key_frame, own.fusion) if rng.random() < 0.5 and own else own
                for own in drawn.follow_ups
            ),
        )

    def largest(self, rng: random.Random) -> VideoArch:
        """Return the largest networks, each with a random fusion: none is larger than another."""
        networks = replace(self, warp=False)
        return networks.max_arch().with_fusions_of(networks.sample(rng))

    def smallest(self, rng: random.Random) -> VideoArch:
        """Return the smallest networks, each with a random fusion: every frame has a network."""
        networks = replace(self, warp=False)
        return networks.min_arch().with_fusions_of(networks.sample(rng))

    @property
    def choices(self) -> Set[str]:
        return self.image_space.choices

    def with_open_choices(self, open_choices: Set[str]) -> VideoSpace:
        """Return the space whose other choices keep only the option of the largest.

        Fusions stay open: none is larger than another.
        """
        return replace(self, image_space=self.image_space.with_open_choices(open_choices))

    def shortage(self) -> str | None:
        return self.image_space.shortage()

    def decode(self, genes: Sequence[int]) -> VideoArch:
        follow_ups = tuple(self._decode_frame(frame) for frame in self._frames(genes))
        return VideoArch(self.key_frame, follow_ups)

    def _decode_frame(self, genes: Sequence[int]) -> FollowUp | None:
        if self.warp and genes[-1] == 0:
            return None
        fusion = self.fusions[genes[-1] - self.warp]
        return FollowUp(self.image_space.decode(genes[:-1]), fusion)

    def _frames(self, genes: Sequence[int]) -> Iterator[Sequence[int]]:
        """Yield the genes of each frame."""
        length = len(self.image_space.num_options) + 1
        for number in range(self.num_follow_ups):
            yield genes[number * length : (number + 1) * length]

    def open_choices(self, genes: Sequence[int]) -> list[int]:
        """Return the genes that change the clip; of a frame without a network, only the last."""
        length = len(self.image_space.num_options) + 1
        warped = [self.warp and frame[-1] == 0 for frame in self._frames(genes)]
        return [
            i
            for i in super().open_choices(genes)
            if i % length == length - 1 or not warped[i // length]
        ]

    def encode(self, arch: VideoArch) -> tuple[int, ...]:
        if arch.key_frame != self.key_frame:
            raise UserError("key_frame", "the key-frame network of this space", "another network")
        if len(arch.follow_ups) != self.num_follow_ups:
            found = str(len(arch.follow_ups))
            raise UserError("follow_ups", f"{self.num_follow_ups} frames", found)
        genes: list[int] = []
        for number, follow_up in enumerate(arch.follow_ups):
            genes += self._encode_frame(follow_up, f"follow_ups[{number}]")
        return tuple(genes)

    def _encode_frame(self, follow_up: FollowUp | None, place: str) -> tuple[int, ...]:
        genes = (0,) * len(self.image_space.num_options)
        if follow_up is not None:
            try:
                genes = self.image_space.encode(follow_up.arch)
            except UserError as error:
                raise error.inside(f"{place}.arch", ".") from None
        found, offered = fusion_name(follow_up), self.fusion_names
        if found not in offered:
            raise UserError(f"{place}.fusion", f"one of {', '.join(offered)}", found)
        return (*genes, offered.index(found))
