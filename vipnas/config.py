"""One experiment as its YAML file says it: typed, strict, complete before anything starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from vipnas.data.clips import ClipAugmentation
from vipnas.data.crops import Augmentation
from vipnas.evaluation.online import Boxes
from vipnas.files import Strict, parse, read_yaml
from vipnas.latency.table import LatencyConfig
from vipnas.search.constraints import Constraint
from vipnas.search.pareto import Objective, check_objectives
from vipnas.search.searchers import Evolution
from vipnas.search.searchers_nsga2 import NSGA2
from vipnas.search.searchers_predictor import Predictor
from vipnas.training.compute import Compute
from vipnas.training.loop import Schedule
from vipnas.training.losses import Distillation
from vipnas.training.sampling import Opening, Sampling
from vipnas.training.video import ClipSampling, Exposure
from vipnas.video_arch import Fusion


@dataclass(frozen=True)
class SyntheticData(Strict):
    """Drawn people, made on first use; the settings are those of `vipnas synthesize`."""

    num_train_images: PositiveInt
    num_test_images: PositiveInt
    image_hw: tuple[int, int] = (240, 320)
    people_per_image: tuple[int, int] = (1, 3)
    difficulty: Annotated[float, Field(ge=0, le=1)] = 1.0


@dataclass(frozen=True)
class SyntheticVideo(Strict):
    """Drawn people who move, made on first use; the settings are those of `vipnas synthesize
    --video`. Their skeleton is posetrack_18.

    Training videos may have `num_train_frames` in place of `num_frames`: for as much drawing, more
    people are worth more than more frames of the same.
    """

    num_train_videos: PositiveInt
    num_test_videos: PositiveInt
    num_frames: PositiveInt = 24
    num_train_frames: PositiveInt | None = None
    image_hw: tuple[int, int] = (240, 320)
    people_per_video: tuple[int, int] = (1, 3)
    difficulty: Annotated[float, Field(ge=0, le=1)] = 1.0
    speed: PositiveFloat = 1.0


@dataclass(frozen=True)
class PoseFiles(Strict):
    """Labelled people and the folder that the names of their images begin in, relative to the data
    root: `annotations` is a COCO keypoint file, `posetrack` a folder of PoseTrack18's files (one a
    video) or one merged file.
    """

    images: str
    annotations: str | None = None
    posetrack: str | None = None

    def __post_init__(self) -> None:
        if (self.annotations is None) == (self.posetrack is None):
            raise ValueError("give either annotations (a COCO file) or posetrack, and not both")


@dataclass(frozen=True)
class Data(Strict):
    """Where people come from, and how many are set aside for what.

    `search_persons` are held out of the training images, whole images (of PoseTrack: whole videos)
    at a time, for scoring subnets; the test set is for final figures only. `calibration_persons`
    are training crops that batch norm is measured on. `cache` is a folder for decoded training
    crops. `detections` is a COCO results file of boxes on the test images, relative to the data
    root: without it the test set is scored on the annotated boxes; people found twice are then
    suppressed (`suppression`).
    """

    synthetic: SyntheticData | None = None
    synthetic_video: SyntheticVideo | None = None
    train: PoseFiles | None = None
    test: PoseFiles | None = None
    max_train_persons: PositiveInt | None = None
    search_persons: PositiveInt = 400
    calibration_persons: PositiveInt = 256
    num_workers: NonNegativeInt = 0
    cache: str | None = None
    detections: str | None = None
    detection_threshold: float = 0.0
    suppression: Literal["hard", "soft"] = "hard"

    def __post_init__(self) -> None:
        sources = (self.synthetic, self.synthetic_video, self.train)
        if sum(source is not None for source in sources) != 1 or (self.train is None) != (
            self.test is None
        ):
            raise ValueError(
                "found no one source of people: give either synthetic, synthetic_video, or train "
                "and test"
            )


@dataclass(frozen=True)
class SupernetConfig(Strict):
    """How the supernet is trained: for how long, on which subnets, what they learn, from when."""

    schedule: Schedule
    sampling: Sampling = field(default_factory=Sampling)
    distillation: Distillation = field(default_factory=Distillation)
    opening: Opening = field(default_factory=Opening)

    def __post_init__(self) -> None:
        if self.opening.all_open_epoch >= self.schedule.epochs:
            raise ValueError(
                f"opening: all is open after {self.opening.all_open_epoch:g} epochs, allowed is"
                f" less than the {self.schedule.epochs:g} of the schedule"
            )


@dataclass(frozen=True)
class SearchConfig(Strict):
    """`num_trials` are scored by `searcher`, and as many by random search for comparison.

    `evolution` looks for the highest score within the constraints, `nsga2` and `predictor` for the
    front of all `objectives`. Milliseconds come from a table (`latency`). `pending` archs are asked
    for before the first is told, enough to keep as many workers busy; the trials depend on it, but
    not on the number of workers. A worker computes with `threads` threads; one that needs more than
    `seconds_limit` for an arch is replaced (with --workers only).

    With an `early_stop_margin`, an arch whose score on the first half of the people lies further
    than that below an arch that costs no more is not scored on the rest: its trial is `partial`,
    with that score, and less exact. The winner and the front are not touched as long as no arch
    gains more than the margin from the first half to the whole. Not for clips.
    """

    num_trials: PositiveInt
    constraints: tuple[Constraint, ...] = ()
    searcher: Literal["evolution", "nsga2", "predictor"] = "evolution"
    objectives: tuple[Objective, ...] = ("score", "macs")
    evolution: Evolution = field(default_factory=Evolution)
    nsga2: NSGA2 = field(default_factory=NSGA2)
    predictor: Predictor = field(default_factory=Predictor)
    latency: LatencyConfig | None = None
    pending: PositiveInt = 4
    threads: PositiveInt = 1
    seconds_limit: PositiveFloat | None = None
    early_stop_margin: PositiveFloat | None = None

    def __post_init__(self) -> None:
        check_objectives(self.objectives)
        wanted = {*self.objectives, *(constraint.quantity for constraint in self.constraints)}
        if "latency_ms" in wanted and self.latency is None:
            raise ValueError("latency_ms: no table to take it from; give latency: {table: FILE}")


@dataclass(frozen=True)
class RetrainConfig(Strict):
    """`init_from`: scratch, or the weights that the arch has in the supernet of this experiment."""

    schedule: Schedule
    init_from: Literal["scratch", "supernet"] = "scratch"


@dataclass(frozen=True)
class Monitoring(Strict):
    """How a training is looked at, which changes nothing in it.

    Every `probe_epochs` (null: never) the AP of the largest, the smallest and `random_probes` other
    members is measured on `probe_persons` of the people held out for the search, batch norm
    calibrated on at most as many training crops; the best mean is kept as `best.pt`. Without
    probes the best is that of the lowest mean training loss at the end of an epoch.
    """

    probe_epochs: PositiveFloat | None = 1.0
    probe_persons: PositiveInt = 100
    random_probes: NonNegativeInt = 2


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
    search are for the mean over a clip's frames. `search_clips` of the videos that are held out
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
    search_clips: PositiveInt = 100
    boxes: Boxes = "annotated"

    def __post_init__(self) -> None:
        margin = self.search.early_stop_margin
        if margin is not None:
            raise ValueError(
                f"search.early_stop_margin: found {margin:g}, allowed is none: clips are scored"
                " whole"
            )


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
    keep_checkpoints: PositiveInt = 2
    compute: Compute = field(default_factory=Compute)
    monitoring: Monitoring = field(default_factory=Monitoring)
    video: VideoConfig | None = None


def read_experiment(path: Path) -> ExperimentConfig:
    """Read an experiment; raises ValueError: file, place, what was found, what is allowed."""
    return parse(ExperimentConfig, read_yaml(path), str(path))
