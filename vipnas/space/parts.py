"""The options of one part of a network: its stem, a stage or a deconvolution. No torch here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, TypeAlias

from vipnas.arch.image import DeconvArch, StageArch, StemArch, later_choices
from vipnas.errors import UserError


@dataclass(frozen=True)
class ChannelsPerGroup:
    """An option of `groups` that depends on the width; an `Arch` holds the number of groups."""

    channels: int


Option: TypeAlias = int | str | bool | ChannelsPerGroup
Part: TypeAlias = StemArch | StageArch | DeconvArch


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

    # A search builds millions of networks out of hundreds of parts.
    @cached_property
    def _part_of_genes(self) -> dict[tuple[int, ...], Part]:
        return {}

    @cached_property
    def _genes_of_part(self) -> dict[Part, tuple[int, ...]]:
        return {}

    def build(self, genes: Iterator[int]) -> Part:
        """Take the part's genes from the iterator and return the part."""
        taken = tuple(islice(genes, len(self.options)))
        if (built := self._part_of_genes.get(taken)) is None:
            built = self._part_of_genes[taken] = self._build(taken)
        return built

    def _build(self, genes: tuple[int, ...]) -> Part:
        pairs = zip(genes, self.options.items(), strict=True)
        values: dict[str, Any] = {name: found[gene] for gene, (name, found) in pairs}
        if isinstance(values.get("groups"), ChannelsPerGroup):
            middle_width = values["width"] * values["expand_ratio"]
            values["groups"] = middle_width // values["groups"].channels
        return self.kind(**values)

    def genes_of(self, part: Part) -> tuple[int, ...]:
        """Return the index of each value among its options; all must be offered."""
        if (genes := self._genes_of_part.get(part)) is None:
            genes = self._genes_of_part[part] = tuple(
                [_concrete(option, part) for option in options].index(getattr(part, name))
                for name, options in self.options.items()
            )
        return genes

    def misfits(self, part: Part) -> Iterator[UserError]:
        """Yield an error for each choice whose value is not offered."""
        if part in self._genes_of_part:
            return
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


def _concrete(option: Option, part: Part) -> Option:
    """Return an option's value in a built part: channels per group become a number of groups."""
    if isinstance(option, ChannelsPerGroup):
        assert isinstance(part, StageArch)
        return part.middle_width // option.channels
    return option
