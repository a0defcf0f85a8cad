"""Settings of the temporal level: training, search and evaluation of clips."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt

from vipnas.arch.clip import NO_FUSION, WARP, Fusion, Trigger
from vipnas.config.data import ClipAugmentation
from vipnas.config.schedule import Schedule
from vipnas.config.search import SearchConfig
from vipnas.config.training import Sampling, SupernetConfig
from vipnas.errors import UserError, shown
from vipnas.files import Strict

Boxes = Literal["annotated", "pose"]


@dataclass(frozen=True)
class Exposure(Strict):
    """Which heatmaps a follow-up frame gets in training.

    Those of the previous frame, as at run time, or those of the labels (teacher forcing).

    Attributes:
        detach: Stop the gradient between frames.
        teacher_forcing_steps: Number of steps with teacher forcing, from the first.
        teacher_forcing_noise_px: Standard deviation of the error added to each joint under teacher
            forcing, in input pixels.
    """

    RENAMED: ClassVar = {
        "truth_steps": "teacher_forcing_steps",
        "truth_noise_px": "teacher_forcing_noise_px",
    }

    detach: bool = True
    teacher_forcing_steps: NonNegativeInt = 0
    teacher_forcing_noise_px: NonNegativeFloat = 2.0


@dataclass(frozen=True)
class FusionOptions(Strict):
    """The fusions that each follow-up frame can have: every operation at every stage.

    Attributes:
        stages: Stages with a fusion, numbered as in `Fusion`.
        operations: Operations; "none" is a frame that sees its image alone, "warp" one without a
            network, whose heatmaps are the warped ones of the previous frame.
    """

    stages: tuple[PositiveInt, ...]
    operations: tuple[Literal["none", "add", "mul", "cat", "warp"], ...] = (
        "none",
        "add",
        "mul",
        "cat",
    )

    @property
    def options(self) -> tuple[Fusion | None, ...]:
        fusions = tuple(
            Fusion(stage, operation)
            for stage in self.stages
            for operation in self.operations
            if operation != "none" and operation != "warp"
        )
        return ((None,) if NO_FUSION in self.operations else ()) + fusions

    @property
    def warp(self) -> bool:
        """Whether a frame may run no network."""
        return WARP in self.operations


@dataclass(frozen=True)
class VideoSupernetConfig(SupernetConfig):
    """How the supernet of the follow-up frames is trained.

    Epochs count clips, of which one begins at every frame.

    Attributes:
        exposure: Which heatmaps of the frame before the networks see.
        init_from: `supernet` starts from the supernet of images, sliced to the space of the
            follow-up networks. Null does so only if both have the same largest architecture.
    """

    sampling: Sampling = field(default_factory=lambda: Sampling("sandwich"))
    exposure: Exposure = field(default_factory=Exposure)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.init_from not in (None, "supernet"):
            raise UserError("init_from", "supernet or null for clips", shown(self.init_from))
        if self.init_arch is not None:
            raise UserError("init_arch", "no such key for clips", shown(self.init_arch))


@dataclass(frozen=True)
class VideoRetrainConfig(Strict):
    """How the networks of a clip are trained, from their weights in the supernet.

    With `weights: own`, each follow-up frame's network has weights of its own from there on. With
    `shared`, one set serves them all, as in the supernet, of which only these subnets are trained:
    a shared weight learns from every frame.

    Attributes:
        schedule: Length, batch size and learning rate.
        exposure: Which heatmaps of the frame before the networks see.
        weights: Whether each follow-up frame has weights of its own.
    """

    schedule: Schedule
    exposure: Exposure = field(default_factory=Exposure)
    weights: Literal["own", "shared"] = "own"


@dataclass(frozen=True)
class KeyFramesByNeed(Strict):
    """Key frames by need in place of the fixed clock.

    The threshold of the trigger is the lowest with which the mean MACs of a frame, on videos of the
    validation split, are at most those of the clock. These videos should be about as long as those
    that the networks will run on: every person's first frame is a key frame.

    Attributes:
        trigger: What shows the need: a low mean `score` of the pose in the previous frame, or the
            `change` of the crop since the key frame.
        max_interval: Frames from one key frame to the next, at most.
        val_videos: The most videos of the validation split on which the threshold is chosen.
    """

    trigger: Trigger = "score"
    max_interval: PositiveInt = 12
    val_videos: PositiveInt = 100


@dataclass(frozen=True)
class VideoConfig(Strict):
    """The temporal level: networks for the frames after a key frame.

    The network of the key frame comes from the other sections of the experiment.

    Attributes:
        num_follow_ups: Number of frames after the key frame.
        fusion: Options of the fusions.
        supernet: How the supernet of the follow-up frames is trained.
        search: How it is searched. Budgets are for the mean over the frames of a clip.
        retrain: How the networks that were found are fine-tuned.
        space: Search space of the follow-up networks; null takes that of the experiment.
        input_hw: Input height and width of the follow-up networks in pixels, or a list of several
            options; null takes those of the experiment, or of `space` if it has several.
        augmentation: How training clips are augmented.
        calibration_clips: Number of training clips on which batch norm is calibrated.
        val_clips: Number of clips of the validation split on which subnets are scored.
        boxes: Boxes for the metrics on test videos: annotated in every frame, or derived from the
            pose in the previous frame.
        key_frames: Key frames by need; null is one every `num_follow_ups` + 1 frames.
    """

    RENAMED: ClassVar = {"search_clips": "val_clips"}

    num_follow_ups: NonNegativeInt
    fusion: FusionOptions
    supernet: VideoSupernetConfig
    search: SearchConfig
    retrain: VideoRetrainConfig
    space: str | None = None
    input_hw: tuple[int, int] | tuple[tuple[int, int], ...] | None = None
    augmentation: ClipAugmentation = field(default_factory=ClipAugmentation)
    calibration_clips: PositiveInt = 64
    val_clips: PositiveInt = 100
    boxes: Boxes = "annotated"
    key_frames: KeyFramesByNeed | None = None
