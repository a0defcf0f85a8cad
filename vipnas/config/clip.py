"""The temporal level of an experiment."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pydantic import NonNegativeInt, PositiveInt

from vipnas.arch.clip import Fusion
from vipnas.config.data import ClipAugmentation
from vipnas.config.search import SearchConfig
from vipnas.config.training import Schedule
from vipnas.files import Strict

Boxes = Literal["annotated", "pose"]


@dataclass(frozen=True)
class Exposure(Strict):
    """Which heatmaps a follow-up frame is shown while training.

    By default they are the network's own of the previous frame, as at run time. With `detach` no
    gradient flows into that frame. The first `teacher_forcing_steps` steps use heatmaps of the
    labels (teacher forcing), each joint moved by a normal error of `teacher_forcing_noise_px` input
    pixels.
    """

    detach: bool = True
    teacher_forcing_steps: int = 0
    teacher_forcing_noise_px: float = 2.0


@dataclass(frozen=True)
class ClipSampling(Strict):
    """Which clip archs a step of the supernet trains.

    - `sandwich`: all frames largest, `num_random` random clips, all frames smallest. No fusion is
      larger than the others: the ends draw theirs at random.
    - `uniform`: the random clips alone. In equal time they make more steps, and light members are
      trained more (`experiments/reports/`).
    """

    strategy: Literal["sandwich", "uniform"] = "sandwich"
    num_random: NonNegativeInt = 1

    def __post_init__(self) -> None:
        if self.strategy == "uniform" and self.num_random < 1:
            raise ValueError("num_random: found 0, of strategy uniform allowed is 1 or more")


@dataclass(frozen=True)
class FusionOptions(Strict):
    """What each follow-up frame may choose from: every operation at every stage (numbered as in
    `Fusion`), and with "none" to see its image alone."""

    stages: tuple[PositiveInt, ...]
    operations: tuple[Literal["none", "add", "mul", "cat"], ...] = ("none", "add", "mul", "cat")

    @property
    def options(self) -> tuple[Fusion | None, ...]:
        fusions = tuple(
            Fusion(stage, operation)
            for stage in self.stages
            for operation in self.operations
            if operation != "none"
        )
        return ((None,) if "none" in self.operations else ()) + fusions


@dataclass(frozen=True)
class VideoTraining(Strict):
    """Training along clips; epochs count clips, of which one begins at every frame."""

    schedule: Schedule
    exposure: Exposure = field(default_factory=Exposure)


@dataclass(frozen=True)
class VideoSupernetConfig(VideoTraining):
    """How the supernet of the follow-up frames is trained, and on which clip archs."""

    sampling: ClipSampling = field(default_factory=ClipSampling)


@dataclass(frozen=True)
class VideoRetrainConfig(VideoTraining):
    """`weights`: with `own`, each follow-up frame's network is taken out of the supernet and has
    weights of its own from there on; with `shared`, one set serves them all, as in the supernet, of
    which only the found members are trained. A shared weight learns from every frame."""

    weights: Literal["own", "shared"] = "own"


@dataclass(frozen=True)
class VideoConfig(Strict):
    """The temporal level: after a key frame, whose network the other sections find, come
    `num_follow_ups` frames with networks of their own.

    `space` is that of the follow-up networks, by default that of the experiment. Budgets of the
    search are for the mean over a clip's frames. `val_clips` of the videos that are held out
    score the archs, `calibration_clips` of the training videos calibrate them. `boxes` are those
    that figures on the test videos are made with: annotated in every frame, or of the pose in the
    frame before.
    """

    num_follow_ups: NonNegativeInt
    fusion: FusionOptions
    supernet: VideoSupernetConfig
    search: SearchConfig
    retrain: VideoRetrainConfig
    space: str | None = None
    augmentation: ClipAugmentation = field(default_factory=ClipAugmentation)
    calibration_clips: PositiveInt = 64
    val_clips: PositiveInt = 100
    boxes: Boxes = "annotated"

    def __post_init__(self) -> None:
        margin = self.search.early_stop_margin
        if margin is not None:
            raise ValueError(
                f"search.early_stop_margin: found {margin:g}, allowed is none: clips are scored"
                " whole"
            )
