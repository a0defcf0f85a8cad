"""One experiment as its YAML file says it: typed, strict, complete before anything starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from vipnas.data.crops import Augmentation
from vipnas.files import Strict, parse, read_yaml
from vipnas.search.constraints import Constraint
from vipnas.search.searchers import Evolution
from vipnas.training.loop import Schedule


@dataclass(frozen=True)
class SyntheticData(Strict):
    """Drawn people, made on first use; the settings are those of `vipnas synthesize`."""

    num_train_images: PositiveInt
    num_test_images: PositiveInt
    image_hw: tuple[int, int] = (240, 320)
    people_per_image: tuple[int, int] = (1, 3)
    difficulty: Annotated[float, Field(ge=0, le=1)] = 1.0


@dataclass(frozen=True)
class CocoFiles(Strict):
    """A COCO keypoint file and the folder of its images, relative to the data root."""

    annotations: str
    images: str


@dataclass(frozen=True)
class Data(Strict):
    """Where people come from, and how many are set aside for what.

    `search_persons` are held out of the training images, whole images at a time, for scoring
    subnets; the test set is for final figures only. `calibration_persons` are training crops that
    batch norm is measured on. `cache` is a folder for decoded training crops. `detections` is a
    COCO results file of boxes on the test images, relative to the data root: without it the test
    set is scored on the annotated boxes; people found twice are then suppressed (`suppression`).
    """

    synthetic: SyntheticData | None = None
    train: CocoFiles | None = None
    test: CocoFiles | None = None
    max_train_persons: PositiveInt | None = None
    search_persons: PositiveInt = 400
    calibration_persons: PositiveInt = 256
    num_workers: NonNegativeInt = 0
    cache: str | None = None
    detections: str | None = None
    detection_threshold: float = 0.0
    suppression: Literal["hard", "soft"] = "hard"

    def __post_init__(self) -> None:
        files = self.train is not None and self.test is not None
        if files == (self.synthetic is not None) or (self.train is None) != (self.test is None):
            raise ValueError(
                "found no one source of people: give either synthetic, or train and test"
            )


@dataclass(frozen=True)
class SupernetConfig(Strict):
    """`num_random`: subnets a step between the largest and the smallest."""

    schedule: Schedule
    num_random: NonNegativeInt = 2


@dataclass(frozen=True)
class SearchConfig(Strict):
    """`num_trials` are scored by evolution, and as many by random search for comparison."""

    num_trials: PositiveInt
    constraints: tuple[Constraint, ...] = ()
    evolution: Evolution = field(default_factory=Evolution)


@dataclass(frozen=True)
class RetrainConfig(Strict):
    """`init_from`: scratch, or the weights that the arch has in the supernet of this experiment."""

    schedule: Schedule
    init_from: Literal["scratch", "supernet"] = "scratch"


@dataclass(frozen=True)
class ExperimentConfig(Strict):
    """All that a run depends on; one that only retrains a known arch has no supernet, no search.

    `skeleton` is a shipped name or a YAML file; `input_hw` replaces that of the space; `codec` says
    how heatmaps become coordinates (`vipnas/data/heatmap.py`); `sigma_px` is in heatmap pixels.
    """

    seed: NonNegativeInt
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


def read_experiment(path: Path) -> ExperimentConfig:
    """Read an experiment; raises ValueError: file, place, what was found, what is allowed."""
    return parse(ExperimentConfig, read_yaml(path), str(path))
