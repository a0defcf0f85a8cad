"""Architectures and costs in words."""

from __future__ import annotations

from vipnas.arch.clip import VideoArch
from vipnas.arch.image import Arch, DeconvArch, StageArch
from vipnas.quantities import Cost, Quantity
from vipnas.search.trial import Trial


def arch_lines(arch: Arch | VideoArch) -> list[str]:
    """Return an architecture, a line for each part; of a clip, a line for each follow-up frame."""
    if isinstance(arch, Arch):
        return [
            f"stem {arch.stem.width}",
            *(f"stage {number} {_stage(stage)}" for number, stage in enumerate(arch.stages, 1)),
            "head " + ", ".join(map(_deconv, arch.head)),
        ]
    return [
        f"frame {number} {follow_up.fusion or 'no fusion'}: "
        + " | ".join(map(_stage, follow_up.arch.stages))
        + " | "
        + ", ".join(map(_deconv, follow_up.arch.head))
        for number, follow_up in enumerate(arch.follow_ups, 1)
    ]


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
    return "–" if value is None else quantity.shown(value)
