"""Where persons come from, and how their crops vary."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    NonNegativeInt,
    PlainSerializer,
    PlainValidator,
    PositiveFloat,
    PositiveInt,
)

from vipnas.files import Strict


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


def _name_or_names(value: Any) -> str | tuple[str, ...]:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(name, str) for name in value):
        return tuple(value)
    raise ValueError(f"expected a name or a list of names, got {value!r}")


def _as_written(names: str | tuple[str, ...]) -> str | list[str]:
    return names if isinstance(names, str) else list(names)


def _listed(names: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else names or ()


# One name or several. Validated by a function, because errors of a union list all of its types.
Names = Annotated[
    str | tuple[str, ...], PlainValidator(_name_or_names), PlainSerializer(_as_written)
]


@dataclass(frozen=True)
class PoseFiles(Strict):
    """Labelled people and the folder that the names of their images begin in, relative to the data
    root: `annotations` is a COCO keypoint file, or several of them that are read as one data set,
    with one folder of images for all or one for each; `posetrack` is a folder of PoseTrack18's
    files (one a video) or one merged file.
    """

    images: Names
    annotations: Names | None = None
    posetrack: str | None = None

    def __post_init__(self) -> None:
        if (self.annotations is None) == (self.posetrack is None):
            raise ValueError("give either annotations (a COCO file) or posetrack, and not both")
        if self.posetrack is not None and not isinstance(self.images, str):
            raise ValueError(f"images: expected one folder for posetrack, got {list(self.images)}")
        if not isinstance(self.images, str) and len(self.images) != len(_listed(self.annotations)):
            raise ValueError(
                f"images: expected one folder, or one for each of the "
                f"{len(_listed(self.annotations))} annotation files, got {len(self.images)}"
            )

    @property
    def coco_files(self) -> tuple[tuple[str, str], ...]:
        """Each annotation file and the folder of its images."""
        annotations, images = _listed(self.annotations), _listed(self.images)
        return tuple(zip(annotations, images * (len(annotations) // len(images)), strict=True))


@dataclass(frozen=True)
class Data(Strict):
    """Where people come from, and how many are set aside for what.

    `val_persons` are held out of the training images, whole images (of PoseTrack: whole videos)
    at a time, for scoring subnets; the test set is for final figures only. `calibration_persons`
    are training crops that batch norm is measured on. `cache` is a folder for decoded training
    crops. `detections` is a COCO results file of boxes on the test images, relative to the data
    root: without it the test set is scored on the annotated boxes; people found twice are then
    suppressed (`suppression`). `exif: ignore` reads images as stored, without the EXIF orientation
    that is applied by default.
    """

    synthetic: SyntheticData | None = None
    synthetic_video: SyntheticVideo | None = None
    train: PoseFiles | None = None
    test: PoseFiles | None = None
    max_train_persons: PositiveInt | None = None
    val_persons: PositiveInt = 400
    calibration_persons: PositiveInt = 256
    num_workers: NonNegativeInt = 0
    cache: str | None = None
    detections: str | None = None
    detection_threshold: float = 0.0
    suppression: Literal["hard", "soft"] = "hard"
    exif: Literal["ignore"] | None = None
    categories: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        sources = (self.synthetic, self.synthetic_video, self.train)
        if sum(source is not None for source in sources) != 1 or (self.train is None) != (
            self.test is None
        ):
            raise ValueError(
                "found no one source of people: give either synthetic, synthetic_video, or train "
                "and test"
            )
        names = self.categories
        if names is not None and (self.train is None or not names or len({*names}) < len(names)):
            raise ValueError(
                f"categories: expected names of categories of train and test, each once, got "
                f"{list(names)}"
            )


@dataclass(frozen=True)
class Augmentation(Strict):
    """How training crops vary; the defaults are the recipe of the published networks.

    A share `rotation_probability` of the crops is turned by a normal angle of standard deviation
    `rotation_deg`, cut off at twice that. The size of the region shown is multiplied by 1 plus a
    normal number of standard deviation `scale_factor`, cut off at 1 +- `scale_factor`. Of people
    with more than `half_body_min_joints` labelled joints, a share `half_body_probability` is
    cropped to the upper body (in `upper_body_probability` of these cases) or the lower.
    """

    flip_probability: float = 0.5
    rotation_deg: float = 30.0
    rotation_probability: float = 0.6
    scale_factor: float = 0.25
    half_body_probability: float = 0.3
    half_body_min_joints: int = 8
    upper_body_probability: float = 0.7

    def __post_init__(self) -> None:
        for name in ("flip", "rotation", "half_body", "upper_body"):
            if not 0 <= (share := getattr(self, f"{name}_probability")) <= 1:
                raise ValueError(f"{name}_probability: {share}; allowed: 0 to 1")
        if not 0 <= self.scale_factor < 1:
            raise ValueError(f"scale_factor: {self.scale_factor}; allowed: 0 to below 1")
        if not 0 <= self.rotation_deg <= 180:
            raise ValueError(f"rotation_deg: {self.rotation_deg}; allowed: 0 to 180")


JITTER_LIMIT = 2.0  # standard deviations at which the jitter is cut off

# Whose box a frame is cropped by: the key frame's; that of the frame before, as at run time, where
# it comes from the last prediction; or its own, as where annotated boxes are scored.
Follow = Literal["key", "before", "own"]


@dataclass(frozen=True)
class ClipAugmentation(Strict):
    """How training clips vary.

    `crop` is drawn once for a clip: flip, rotation, scale and half body are the same in all its
    frames. `follow` says whose box a frame is cropped by. The crop of each frame is then moved and
    scaled by itself, by normal numbers cut off at 2 standard deviations: `shift` in sides of the
    crop, `scale` relative to its size. "key" without both is one crop fixed over the clip.
    """

    crop: Augmentation = field(default_factory=Augmentation)
    follow: Follow = "before"
    shift: float = 0.05
    scale: float = 0.05

    def __post_init__(self) -> None:
        for name in ("shift", "scale"):
            if not 0 <= (value := getattr(self, name)) < 1 / JITTER_LIMIT:
                raise ValueError(f"{name}: {value}; allowed: 0 to below {1 / JITTER_LIMIT}")
