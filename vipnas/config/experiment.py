"""One experiment as its YAML file says it: typed, strict, complete before anything starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, PositiveFloat, PositiveInt

from vipnas.config.clip import VideoConfig
from vipnas.config.data import Augmentation, Data
from vipnas.config.search import SearchConfig
from vipnas.config.training import Compute, Monitoring, RetrainConfig, SupernetConfig
from vipnas.files import Strict, parse, read_yaml

# What PyTorch takes, whatever is added to it for another split.
Seed: TypeAlias = Annotated[int, Field(ge=0, lt=1 << 63)]


@dataclass(frozen=True)
class ExperimentConfig(Strict):
    """All that a run depends on; one that only retrains a known arch has no supernet, no search.

    `skeleton` is a shipped name or a YAML file; `input_hw` replaces that of the space; `codec` says
    how heatmaps become coordinates (`vipnas/data/codecs/heatmap.py`); `sigma_px` is in heatmap
    pixels.
    """

    seed: Seed
    space: str
    data: Data
    retrain: RetrainConfig
    supernet: SupernetConfig | None = None
    search: SearchConfig | None = None
    skeleton: str = "coco_17"
    input_hw: tuple[int, int] | None = None
    codec: Literal["quarter", "dark", "udp"] = "quarter"
    sigma_px: PositiveFloat = 2.0
    augmentation: Augmentation = field(default_factory=Augmentation)
    flip_test: bool = True
    evaluation_batch_size: PositiveInt = 64
    checkpoint_minutes: PositiveFloat = 2.0
    keep_checkpoints: PositiveInt = 2
    compute: Compute = field(default_factory=Compute)
    monitoring: Monitoring = field(default_factory=Monitoring)
    video: VideoConfig | None = None


def read_experiment(path: Path) -> ExperimentConfig:
    """Read an experiment; raises ValueError: file, place, what was found, what is allowed."""
    return parse(ExperimentConfig, read_yaml(path), str(path))
