"""The search space of image networks: the options of every choice. No torch here.

`GeneSpace` samples and varies architectures; `space/yaml.py` reads a space from its file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from vipnas.arch.image import Arch, DeconvArch, Family, StageArch, StemArch, later_choices
from vipnas.errors import UserError
from vipnas.space.genes import GeneSpace


@dataclass(frozen=True)
class ChannelsPerGroup:
    """An option of `groups` that depends on the width; an `Arch` holds the number of groups."""

    channels: int


Option: TypeAlias = int | str | bool | ChannelsPerGroup
Part: TypeAlias = StemArch | StageArch | DeconvArch
Facts: TypeAlias = tuple[Family, tuple[int, int], int]


@dataclass(frozen=True)
class PartOptions:
    """The options of one part of the network.

    Attributes:
        place: Where the part is in a network, such as `stages[0]`.
        kind: The class of the part.
        options: Choice to options, from small to large.
    """

    place: str
    kind: type[Part]
    options: dict[str, tuple[Option, ...]]

    def build(self, genes: Iterator[int]) -> Part:
        """Take the part's genes from the iterator and return the part."""
        values: dict[str, Any] = {name: found[next(genes)] for name, found in self.options.items()}
        if isinstance(values.get("groups"), ChannelsPerGroup):
            middle_width = values["width"] * values["expand_ratio"]
            values["groups"] = middle_width // values["groups"].channels
        return self.kind(**values)

    def genes_of(self, part: Part) -> Iterator[int]:
        """Yield the index of each value among its options; all must be offered."""
        for name, options in self.options.items():
            yield [_concrete(option, part) for option in options].index(getattr(part, name))

    def misfits(self, part: Part) -> Iterator[UserError]:
        """Yield an error for each choice whose value is not offered."""
        for name, options in self.options.items():
            value = getattr(part, name)
            offered = [_concrete(option, part) for option in options]
            if value not in offered:
                yield UserError(f"{self.place}.{name}", f"one of {offered}", repr(value))

    def to_plain(self) -> dict[str, list[Any]]:
        """Return the part as `read_space` takes it.

        Groups that follow the width have a key of their own. Choices that came later, and that are
        not offered, are left out: spaces of before are equal.
        """
        plain: dict[str, list[Any]] = {}
        for name, options in self.options.items():
            if options == (later_choices(self.kind).get(name),):
                continue
            counts = [option for option in options if not isinstance(option, ChannelsPerGroup)]
            widths = [option.channels for option in options if isinstance(option, ChannelsPerGroup)]
            plain |= {name: counts} if counts else {}
            plain |= {"channels_per_group": widths} if widths else {}
        return plain


@dataclass(frozen=True)
class SearchSpace(GeneSpace[Arch]):
    """All architectures that one supernet of images holds. `arch in space` tests membership.

    Attributes:
        name: The name of the space, that of its file.
        family: The kind of block.
        input_hw: Height and width of the input in pixels.
        num_keypoints: Number of joints.
        parts: The stem, the stages and the deconvolutions, in this order.
    """

    name: str
    family: Family
    input_hw: tuple[int, int]
    num_keypoints: int
    parts: tuple[PartOptions, ...]

    @property
    def num_options(self) -> tuple[int, ...]:
        """Number of options of every choice, in the order of the genes."""
        return tuple(len(found) for part in self.parts for found in part.options.values())

    def decode(self, genes: Sequence[int]) -> Arch:
        remaining = iter(genes)
        built = [part.build(remaining) for part in self.parts]
        return Arch(
            family=self.family,
            input_hw=self.input_hw,
            stem=next(part for part in built if isinstance(part, StemArch)),
            stages=tuple(part for part in built if isinstance(part, StageArch)),
            head=tuple(part for part in built if isinstance(part, DeconvArch)),
            num_keypoints=self.num_keypoints,
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
        return tuple(
            gene
            for options, part in zip(self.parts, _parts_of(arch), strict=True)
            for gene in options.genes_of(part)
        )

    def misfits(self, arch: Arch) -> Iterator[UserError]:
        """Yield an error for each field of an architecture that the space does not offer."""
        facts: Facts = (arch.family, arch.input_hw, arch.num_keypoints)
        names = ("family", "input_hw", "num_keypoints")
        for name, found, expected in zip(names, facts, self._facts, strict=True):
            if found != expected:
                yield UserError(name, repr(expected), repr(found))
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
        self, input_hw: tuple[int, int] | None = None, num_keypoints: int | None = None
    ) -> SearchSpace:
        """Return the same choices for another input size or another number of joints."""
        changed = replace(
            self,
            input_hw=input_hw or self.input_hw,
            num_keypoints=num_keypoints or self.num_keypoints,
        )
        check_options(changed, self.name)
        return changed

    @property
    def choices(self) -> Set[str]:
        return {name for part in self.parts for name in part.options}

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
        return replace(self, parts=tuple(parts))

    def to_plain(self) -> dict[str, Any]:
        """Return everything but the name, as `parse_space` takes it, equal for equal spaces."""
        sections: dict[type[Part], list[dict[str, list[Any]]]] = {}
        for part in self.parts:
            sections.setdefault(part.kind, []).append(part.to_plain())
        return {
            "family": self.family,
            "input_hw": list(self.input_hw),
            "num_keypoints": self.num_keypoints,
            "stem": sections[StemArch][0],
            "stages": sections[StageArch],
            "head": sections.get(DeconvArch, []),
        }

    @property
    def _facts(self) -> Facts:
        return self.family, self.input_hw, self.num_keypoints

    def _count(self, kind: type[Part]) -> int:
        return sum(part.kind is kind for part in self.parts)


def check_options(space: SearchSpace, where: str) -> None:
    """Build an architecture with each option, and the largest, so that `Arch` checks them.

    Raises:
        UserError: If an architecture is impossible, or the heatmap size is not always the same. Its
            place is inside `where`.
    """
    smallest = [0] * len(space.num_options)
    changed = (
        [*smallest[:choice], option, *smallest[choice + 1 :]]
        for choice, count in enumerate(space.num_options)
        for option in range(count)
    )
    sizes = set()
    for genes in (*changed, [count - 1 for count in space.num_options]):
        try:
            sizes.add(space.decode(genes).heatmap_hw)
        except UserError as error:
            raise error.inside(where) from None
    if len(sizes) > 1:
        place, found = f"{where}: stride and max_pool", f"heatmaps of {sorted(sizes)}"
        raise UserError(place, "one heatmap size", found, "give one option each")


def _parts_of(arch: Arch) -> tuple[Part, ...]:
    return arch.stem, *arch.stages, *arch.head


def _concrete(option: Option, part: Part) -> Option:
    """Return an option's value in a built part: channels per group become a number of groups."""
    if isinstance(option, ChannelsPerGroup):
        assert isinstance(part, StageArch)
        return part.middle_width // option.channels
    return option
