"""The temporal level of an experiment."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pydantic import NonNegativeInt, PositiveInt

from vipnas.arch.clip import Fusion
from vipnas.config.data import ClipAugmentation
from vipnas.config.search import SearchConfig
from vipnas.config.training import Sampling, Schedule, SupernetConfig
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
class VideoSupernetConfig(SupernetConfig):
    """How the supernet of the follow-up frames is trained; epochs count clips, of which one begins
    at every frame."""

    sampling: Sampling = field(default_factory=lambda: Sampling("sandwich"))
    exposure: Exposure = field(default_factory=Exposure)


@dataclass(frozen=True)
class VideoRetrainConfig(Strict):
    """How the networks of a clip are trained, from their weights in the supernet.

    With `weights: own`, each follow-up frame's network has weights of its own from there on. With
    `shared`, one set serves them all, as in the supernet, of which only these subnets are trained:
    a shared weight learns from every frame.
    """

    schedule: Schedule
    exposure: Exposure = field(default_factory=Exposure)
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
