"""Architectures and costs in words."""

from __future__ import annotations

from collections.abc import Iterator

from vipnas.arch.clip import FollowUp, VideoArch, fusion_in_words
from vipnas.arch.image import Arch, DeconvArch, StageArch
from vipnas.quantities import Cost, Quantity
from vipnas.report.blocks import UNKNOWN
from vipnas.search.trial import Trial


def arch_lines(arch: Arch | VideoArch) -> list[str]:
    """Return an architecture, a line for each part; of a clip, a line for each follow-up frame."""
    if isinstance(arch, Arch):
        return [
            f"stem {arch.stem.width}",
            *(f"stage {number} {_stage(stage)}" for number, stage in enumerate(arch.stages, 1)),
            "head " + ", ".join(_head(arch)),
        ]
    return [
        f"frame {number} {fusion_in_words(follow_up)}{_parts(follow_up, arch.key_frame)}"
        for number, follow_up in enumerate(arch.follow_ups, 1)
    ]


def _parts(follow_up: FollowUp | None, key_frame: Arch) -> str:
    if follow_up is None:
        return ""
    own = follow_up.arch
    stages = " | ".join(map(_stage, own.stages))
    sized = "" if own.input_hw == key_frame.input_hw else ", input {} x {}".format(*own.input_hw)
    return f"{sized}: {stages} | {', '.join(map(_deconv, own.head))}"


def _head(arch: Arch) -> Iterator[str]:
    yield from map(_deconv, arch.head)
    if arch.simcc is not None:
        yield f"simcc k{arch.simcc.kernel_size}, {arch.simcc.split_ratio} bins per pixel"


def _stage(stage: StageArch) -> str:
    parts = [f"{stage.depth} x {stage.width}", f"k{stage.kernel_size}", f"g{stage.groups}"]
    if stage.expand_ratio != 1:
        parts.append(f"e{stage.expand_ratio}")
    if stage.attention:
        parts.append("attention")
    return " ".join(parts)


def _deconv(deconv: DeconvArch) -> str:
    return f"{deconv.width} k{deconv.kernel_size} g{deconv.groups}"


def trial_text(trial: Trial, label: str) -> str:
    """Return the lines that a point of a trial shows: its score, its cost, its architecture."""
    result = f"failed: {trial.failure}" if trial.score is None else f"score {trial.score:.4f}"
    origin = f", generation {trial.generation}" if trial.generation else ""
    first = f"{label} {trial.number + 1}: {result}{origin}"
    return "\n".join((first, str(trial.cost), *arch_lines(trial.arch)))


def shown_cost(quantity: Quantity, cost: Cost | None) -> str:
    """Return a quantity without its unit; a dash where it is unknown."""
    value = None if cost is None else cost.get(quantity.name)
    return UNKNOWN if value is None else quantity.shown(value)
