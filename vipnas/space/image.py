"""A search space: what may be chosen, read from YAML. No torch here.

Inside, an architecture is a list of genes, see `GeneSpace`, which also samples and varies it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from vipnas.arch.image import Arch, DeconvArch, Family, StageArch, StemArch
from vipnas.space.genes import GeneSpace


@dataclass(frozen=True)
class ChannelsPerGroup:
    """A groups option that follows the width: an `Arch` holds the count that it comes to."""

    channels: int


Option: TypeAlias = int | str | bool | ChannelsPerGroup
Part: TypeAlias = StemArch | StageArch | DeconvArch
Facts: TypeAlias = tuple[Family, tuple[int, int], int]


@dataclass(frozen=True)
class PartOptions:
    """The options of one part of the network: choice -> options, from small to large."""

    place: str
    kind: type[Part]
    options: dict[str, tuple[Option, ...]]

    def build(self, genes: Iterator[int]) -> Part:
        values: dict[str, Any] = {name: found[next(genes)] for name, found in self.options.items()}
        if isinstance(values.get("groups"), ChannelsPerGroup):
            middle_width = values["width"] * values["expand_ratio"]
            values["groups"] = middle_width // values["groups"].channels
        return self.kind(**values)

    def genes_of(self, part: Part) -> Iterator[int]:
        """Yield the index of each value among its options; all must be offered."""
        for name, options in self.options.items():
            yield [_concrete(option, part) for option in options].index(getattr(part, name))

    def misfits(self, part: Part) -> Iterator[str]:
        """Yield a line for each choice whose value is not offered."""
        for name, options in self.options.items():
            value = getattr(part, name)
            offered = [_concrete(option, part) for option in options]
            if value not in offered:
                yield f"{self.place}.{name}: found {value!r}, allowed are {offered}"

    def to_plain(self) -> dict[str, list[Any]]:
        """The part as `read_space` takes it: groups that follow the width have a key of their
        own."""
        plain: dict[str, list[Any]] = {}
        for name, options in self.options.items():
            counts = [option for option in options if not isinstance(option, ChannelsPerGroup)]
            widths = [option.channels for option in options if isinstance(option, ChannelsPerGroup)]
            plain |= {name: counts} if counts else {}
            plain |= {"channels_per_group": widths} if widths else {}
        return plain


@dataclass(frozen=True)
class SearchSpace(GeneSpace[Arch]):
    """All architectures that one supernet of images holds. `arch in space` tells membership."""

    name: str
    family: Family
    input_hw: tuple[int, int]
    num_keypoints: int
    parts: tuple[PartOptions, ...]

    @property
    def num_options(self) -> tuple[int, ...]:
        """Options of every choice, in the order of the genes."""
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
        """The genes of a member; raises ValueError naming all that is not of this space."""
        if misfits := list(self.misfits(arch)):
            raise ValueError("; ".join(misfits))
        return tuple(
            gene
            for options, part in zip(self.parts, _parts_of(arch), strict=True)
            for gene in options.genes_of(part)
        )

    def misfits(self, arch: Arch) -> Iterator[str]:
        """Yield a line for each field of the arch that the space does not offer."""
        facts: Facts = (arch.family, arch.input_hw, arch.num_keypoints)
        names = ("family", "input_hw", "num_keypoints")
        for name, found, allowed in zip(names, facts, self._facts, strict=True):
            if found != allowed:
                yield f"{name}: found {found!r}, allowed is {allowed!r}"
        built = _parts_of(arch)
        if [type(part) for part in built] != [part.kind for part in self.parts]:
            yield (
                f"found {len(arch.stages)} stages and {len(arch.head)} deconvolutions,"
                f" allowed are {self._count(StageArch)} and {self._count(DeconvArch)}"
            )
            return
        for options, part in zip(self.parts, built, strict=True):
            yield from options.misfits(part)

    def with_facts(
        self, input_hw: tuple[int, int] | None = None, num_keypoints: int | None = None
    ) -> SearchSpace:
        """The same choices for another input size or another skeleton."""
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
        """All that makes the space but its name, as `parse_space` takes it: equal for equal
        spaces."""
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
    """Whatever an Arch checks of itself (kernels, input size, positive numbers), for each option;
    and that all members have heatmaps of one size."""
    sizes = set()
    for choice, count in enumerate(space.num_options):
        for option in range(count):
            genes = [0] * len(space.num_options)
            genes[choice] = option
            try:
                sizes.add(space.decode(genes).heatmap_hw)
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from None
    if len(sizes) > 1:
        raise ValueError(
            f"{where}: stride and max_pool: found options with heatmaps of {sorted(sizes)},"
            " allowed is one option each"
        )


def _parts_of(arch: Arch) -> tuple[Part, ...]:
    return arch.stem, *arch.stages, *arch.head


def _concrete(option: Option, part: Part) -> Option:
    """What an option comes to in a built part: channels per group become a count."""
    if isinstance(option, ChannelsPerGroup):
        assert isinstance(part, StageArch)
        return part.middle_width // option.channels
    return option
