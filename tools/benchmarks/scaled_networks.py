"""Networks scaled uniformly in width: the hand-made way to less time."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import replace

from vipnas.arch.image import Arch, DeconvArch, StageArch, StemArch
from vipnas.space.image import SearchSpace
from vipnas.space.parts import PartOptions

FACTORS = [0.1 * 1.03**step for step in range(120)]  # to 3.4


def space_of(arch: Arch) -> SearchSpace:
    """The space whose only member it is."""
    parts: list[StemArch | StageArch | DeconvArch] = [arch.stem, *arch.stages, *arch.head]
    options = (
        PartOptions(
            f"part {number}", type(part), {name: (value,) for name, value in vars(part).items()}
        )
        for number, part in enumerate(parts)
    )
    sizes = (arch.input_hw,)
    return SearchSpace("one", arch.family, sizes, arch.num_keypoints, parts=tuple(options))


def scaled(arch: Arch, factor: float, multiple: int) -> Arch:
    """All widths times `factor`, rounded to multiples; kernels, depths and the rest stay. Dense
    layers stay dense; groups have as nearly as many channels as before as divisibility allows."""

    def width_of(width: int) -> int:
        return max(1, round(width * factor / multiple)) * multiple

    stem = replace(arch.stem, width=width_of(arch.stem.width))
    stages, head, channels = [], [], stem.width
    for stage in arch.stages:
        width = width_of(stage.width)
        middle = width * stage.expand_ratio
        shared = middle
        if arch.family == "inverted_residual" and stage.expand_ratio == 1:
            # The k x k convolution of the first block reads the stage's input.
            shared = math.gcd(middle, channels)
        groups = groups_like(stage.groups, stage.middle_width, middle, shared)
        stages.append(replace(stage, width=width, groups=groups))
        channels = width
    for deconv in arch.head:
        width = width_of(deconv.width)
        groups = groups_like(deconv.groups, deconv.width, width, math.gcd(width, channels))
        head.append(replace(deconv, width=width, groups=groups))
        channels = width
    return replace(arch, stem=stem, stages=tuple(stages), head=tuple(head))


def groups_like(groups: int, channels: int, new_channels: int, divided: int) -> int:
    """Of the counts that divide `divided`, that with the most similar channels per group."""
    if groups == 1:
        return 1
    counts = [count for count in range(1, divided + 1) if divided % count == 0]
    return min(counts, key=lambda n: abs(math.log(new_channels / n * groups / channels)))


def scaled_to(ms: float, reference: Arch, multiple: int, ms_of: Callable[[Arch], float]) -> Arch:
    """The quickest of the scaled networks that takes at least `ms`, found by halving: few are
    timed."""
    archs = list(dict.fromkeys(scaled(reference, factor, multiple) for factor in FACTORS))
    return archs[bisect_left(archs, ms, hi=len(archs) - 1, key=ms_of)]
