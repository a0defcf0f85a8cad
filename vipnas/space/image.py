"""The search space of image networks: the options of every choice. No torch here.

`GeneSpace` samples and varies architectures; `space/yaml.py` reads a space from its file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias, cast

from vipnas.arch.image import Arch, DeconvArch, Family, SimccArch, StageArch, StemArch
from vipnas.errors import UserError
from vipnas.files import to_plain
from vipnas.space.genes import GeneSpace
from vipnas.space.parts import Part, PartOptions

SizeHW: TypeAlias = tuple[int, int]


@dataclass(frozen=True)
class SearchSpace(GeneSpace[Arch]):
    """All architectures that one supernet of images holds. `arch in space` tests membership.

    Attributes:
        name: The name of the space, that of its file.
        family: The kind of block.
        inputs_hw: Options for height and width of the input in pixels, from small to large. All
            have the same aspect ratio.
        num_keypoints: Number of joints.
        parts: The stem, the stages and the deconvolutions, in this order.
        simcc: The SimCC head of all architectures; None for heatmaps.
    """

    name: str
    family: Family
    inputs_hw: tuple[SizeHW, ...]
    num_keypoints: int
    parts: tuple[PartOptions, ...]
    simcc: SimccArch | None = None

    @property
    def input_hw(self) -> SizeHW:
        """The largest height and width of the input, at which crops are made."""
        return self.inputs_hw[-1]

    @property
    def has_sizes(self) -> bool:
        """Whether the size of the input is a choice. A single size has no gene."""
        return len(self.inputs_hw) > 1

    @cached_property
    def num_options(self) -> tuple[int, ...]:
        """Number of options of every choice, in the order of the genes: the input size first."""
        sizes = (len(self.inputs_hw),) if self.has_sizes else ()
        parts = (len(found) for part in self.parts for found in part.options.values())
        return (*sizes, *parts)

    def decode(self, genes: Sequence[int]) -> Arch:
        remaining = iter(genes)
        input_hw = self.inputs_hw[next(remaining) if self.has_sizes else 0]
        built = [part.build(remaining) for part in self.parts]
        return Arch(
            family=self.family,
            input_hw=input_hw,
            stem=next(part for part in built if isinstance(part, StemArch)),
            stages=tuple(part for part in built if isinstance(part, StageArch)),
            head=tuple(part for part in built if isinstance(part, DeconvArch)),
            num_keypoints=self.num_keypoints,
            simcc=self.simcc,
        )

    def encode(self, arch: Arch) -> tuple[int, ...]:
        """Return the genes of an architecture of this space.

        Raises:
            UserError: For what is not of this space; the hint names what else is not.
        """
        if misfits := list(self.misfits(arch)):
            first, *others = misfits
            also = "; ".join(f"{other.place} {other.found}" for other in others)
            hint = f"also: {also}" if others else ""
            raise UserError(first.place, first.expected, first.found, hint)
        sizes = (self.inputs_hw.index(arch.input_hw),) if self.has_sizes else ()
        pairs = zip(self.parts, _parts_of(arch), strict=True)
        return (*sizes, *(gene for options, part in pairs for gene in options.genes_of(part)))

    def shortage(self) -> str | None:
        """Return a line if fewer channels than joints reach the heatmaps.

        Heatmaps are a linear map of these channels, so that with fewer they cannot all be right.
        """
        arch = self.max_arch()
        channels = arch.head[-1].width if arch.head else arch.stages[-1].width
        if arch.simcc is not None or channels >= arch.num_keypoints:
            return None
        expected = f"expected at least {arch.num_keypoints} channels before the heatmaps"
        return f"{expected}, one for each joint, got {channels} (heatmaps of joints will mix)"

    def misfits(self, arch: Arch) -> Iterator[UserError]:
        """Yield an error for each field of an architecture that the space does not offer."""
        for name in ("family", "input_hw", "num_keypoints", "simcc"):
            found, expected = getattr(arch, name), repr(getattr(self, name))
            offered = self.inputs_hw if name == "input_hw" else (getattr(self, name),)
            if found not in offered:
                expected = f"one of {list(offered)}" if len(offered) > 1 else expected
                yield UserError(name, expected, repr(found))
        built = _parts_of(arch)
        if [type(part) for part in built] != [part.kind for part in self.parts]:
            yield UserError(
                "stages and head",
                f"{self._count(StageArch)} stages and {self._count(DeconvArch)} deconvolutions",
                f"{len(arch.stages)} and {len(arch.head)}",
            )
            return
        for options, part in zip(self.parts, built, strict=True):
            yield from options.misfits(part)

    def with_facts(
        self,
        input_hw: SizeHW | Sequence[SizeHW] | None = None,
        num_keypoints: int | None = None,
    ) -> SearchSpace:
        """Return the same choices for another input size, or sizes, and number of joints."""
        changed = replace(
            self,
            inputs_hw=self.inputs_hw if input_hw is None else sorted_sizes(input_hw),
            num_keypoints=num_keypoints or self.num_keypoints,
        )
        check_options(changed, self.name)
        return changed

    @property
    def choices(self) -> Set[str]:
        sizes = {"input_hw"} if self.has_sizes else set()
        return sizes | {name for part in self.parts for name in part.options}

    def with_open_choices(self, open_choices: Set[str]) -> SearchSpace:
        """Return the space whose other choices keep only the option of the largest."""
        parts = (
            replace(
                part,
                options={
                    name: options if name in open_choices else options[-1:]
                    for name, options in part.options.items()
                },
            )
            for part in self.parts
        )
        inputs_hw = self.inputs_hw if "input_hw" in open_choices else self.inputs_hw[-1:]
        return replace(self, inputs_hw=inputs_hw, parts=tuple(parts))

    def to_plain(self) -> dict[str, Any]:
        """Return everything but the name, as `parse_space` takes it, equal for equal spaces."""
        sections: dict[type[Part], list[dict[str, list[Any]]]] = {}
        for part in self.parts:
            sections.setdefault(part.kind, []).append(part.to_plain())
        sizes = [list(input_hw) for input_hw in self.inputs_hw]
        return {
            "family": self.family,
            "input_hw": sizes if self.has_sizes else sizes[0],
            "num_keypoints": self.num_keypoints,
            "stem": sections[StemArch][0],
            "stages": sections[StageArch],
            "head": sections.get(DeconvArch, []),
            **({} if self.simcc is None else {"simcc": to_plain(self.simcc)}),
        }

    def _count(self, kind: type[Part]) -> int:
        return sum(part.kind is kind for part in self.parts)


def check_options(space: SearchSpace, where: str) -> None:
    """Build an architecture with each option, and the largest, so that `Arch` checks them.

    Raises:
        UserError: If an architecture is impossible, input sizes differ in aspect ratio, or the
            heatmap size of an input size is not always the same. Its place is inside `where`.
    """
    _check_sizes(space.inputs_hw, f"{where}: input_hw")
    if space.simcc is not None and space.has_sizes:
        found = str([list(size) for size in space.inputs_hw])
        hint = "the linear layers of a SimCC head are of one size"
        raise UserError(f"{where}: input_hw", "one size with simcc", found, hint)
    smallest = [0] * len(space.num_options)
    changed = (
        [*smallest[:choice], option, *smallest[choice + 1 :]]
        for choice, count in enumerate(space.num_options)
        for option in range(count)
    )
    sizes: dict[SizeHW, set[SizeHW]] = {}
    for genes in (*changed, [count - 1 for count in space.num_options]):
        try:
            arch = space.decode(genes)
        except UserError as error:
            raise error.inside(where) from None
        sizes.setdefault(arch.input_hw, set()).add(arch.maps_hw)
    for maps_hw in sizes.values():
        if len(maps_hw) > 1:
            place, found = f"{where}: stride and max_pool", f"heatmaps of {sorted(maps_hw)}"
            raise UserError(place, "one heatmap size", found, "give one option each")


def sorted_sizes(input_hw: SizeHW | Sequence[SizeHW]) -> tuple[SizeHW, ...]:
    """Return one input size or several as options, from small to large."""
    sizes = [size for size in input_hw if not isinstance(size, int)]
    return tuple(sorted(sizes or [cast(SizeHW, input_hw)], key=math.prod))


def _check_sizes(inputs_hw: Sequence[SizeHW], place: str) -> None:
    if not all(inputs_hw):
        raise UserError(place, "one size or more", "none")
    largest_h, largest_w = inputs_hw[-1]
    if len(set(inputs_hw)) < len(inputs_hw):
        raise UserError(place, "each size once", str([list(size) for size in inputs_hw]))
    for height, width in inputs_hw:
        if height * largest_w != width * largest_h:
            expected = f"sizes with the aspect ratio of {[largest_h, largest_w]}, the largest"
            hint = "smaller inputs are resized crops of the largest"
            raise UserError(place, expected, str([height, width]), hint)


def _parts_of(arch: Arch) -> tuple[Part, ...]:
    return arch.stem, *arch.stages, *arch.head
