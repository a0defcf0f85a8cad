"""The choices in which the architectures of a search differ, as names, options and genes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

import numpy as np

from vipnas.arch.clip import WARP, VideoArch, fusion_name
from vipnas.arch.image import Arch
from vipnas.report.runs import AnyArch
from vipnas.search.pareto import Integers

# N architectures, C choices

Option: TypeAlias = int | str | bool


@dataclass(frozen=True)
class Choices:
    """What differs between architectures.

    Attributes:
        names: The choices, such as `stage 2 width`.
        options: The options of each choice that occur, from small to large.
        genes_NC: The number of the option of each architecture in each choice.
    """

    names: tuple[str, ...]
    options: tuple[tuple[Option, ...], ...]
    genes_NC: Integers

    @classmethod
    def of(cls, archs: Sequence[AnyArch]) -> Choices:
        """Return the choices with two options or more among these architectures."""
        values = [dict(choices_of(arch)) for arch in archs]
        options = {
            name: tuple(sorted({found.get(name, WARP) for found in values}, key=_size))
            for name in {name: None for found in values for name in found}
        }
        names = tuple(name for name, found in options.items() if len(found) > 1)
        genes = [[options[name].index(found.get(name, WARP)) for name in names] for found in values]
        genes_NC = np.array(genes, dtype=np.int64).reshape(len(archs), len(names))
        return cls(names, tuple(options[name] for name in names), genes_NC)

    @property
    def num_options(self) -> tuple[int, ...]:
        return tuple(map(len, self.options))


def _size(option: Option) -> tuple[bool, float, str]:
    is_word = isinstance(option, str)
    return is_word, 0.0 if isinstance(option, str) else float(option), str(option)


def choices_of(arch: AnyArch) -> Iterator[tuple[str, Option]]:
    """Yield the name and the value of every choice of an architecture.

    A frame of a clip without a network has the one choice of its fusion.
    """
    if isinstance(arch, VideoArch):
        for number, follow_up in enumerate(arch.follow_ups, start=1):
            yield f"frame {number} fusion", fusion_name(follow_up)
            if follow_up is not None:
                own = choices_of(follow_up.arch)
                yield from ((f"frame {number} {name}", value) for name, value in own)
        return
    yield "input", "{} x {}".format(*arch.input_hw)
    for place, part in _parts(arch):
        for field in fields(part):
            yield f"{place} {field.name.replace('_', ' ')}", getattr(part, field.name)


def _parts(arch: Arch) -> Iterator[tuple[str, Any]]:
    yield "stem", arch.stem
    yield from ((f"stage {number}", stage) for number, stage in enumerate(arch.stages, start=1))
    yield from ((f"deconv {number}", deconv) for number, deconv in enumerate(arch.head, start=1))
    if arch.simcc is not None:
        yield "simcc", arch.simcc
