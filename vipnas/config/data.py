"""Settings of the data: where persons come from, and how their crops are augmented."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    Field,
    NonNegativeInt,
    PlainSerializer,
    PlainValidator,
    PositiveFloat,
    PositiveInt,
)

from vipnas.errors import UserError, shown
from vipnas.files import Strict


@dataclass(frozen=True)
class SyntheticData(Strict):
    """Synthetic people, generated on first use, with the settings of `vipnas synthesize`.

    Attributes:
        num_train_images: Number of training images.
        num_test_images: Number of test images.
        image_hw: Height and width in pixels.
        people_per_image: Least and most people per image.
        difficulty: 0 to 1: the variety of poses, looks, occlusions and image quality.
    """

    num_train_images: PositiveInt
    num_test_images: PositiveInt
    image_hw: tuple[int, int] = (240, 320)
    people_per_image: tuple[int, int] = (1, 3)
    difficulty: Annotated[float, Field(ge=0, le=1)] = 1.0


@dataclass(frozen=True)
class SyntheticVideo(Strict):
    """Synthetic videos, generated on first use, with the settings of `vipnas synthesize --video`.

    Their skeleton is posetrack_18.

    Attributes:
        num_train_videos: Number of training videos.
        num_test_videos: Number of test videos.
        num_frames: Frames per video, at 25 frames per second.
        num_train_frames: Frames per training video, if they differ. Shorter and more videos show
            more people for the same rendering time.
        image_hw: Height and width in pixels.
        people_per_video: Least and most people at a time.
        difficulty: 0 to 1: the variety of poses, looks, occlusions and image quality.
        speed: How fast people move; 1 is natural.
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
    raise UserError("", "a name or a list of names", shown(value))


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
    """Annotation files and their images. All paths are relative to the dataset root.

    Attributes:
        images: The folder that file names in the annotations are relative to; or one for each of
            several annotation files.
        annotations: A COCO keypoint file, or several that are read as one data set.
        posetrack: A folder of PoseTrack18 files, one per video, or one merged file.
        weights: Weight in the loss of the labels of each annotation file of `train`, above 0, up to
            1; null is 1 for all.
    """

    images: Names
    annotations: Names | None = None
    posetrack: str | None = None
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if (self.annotations is None) == (self.posetrack is None):
            found = "none" if self.annotations is None else "both"
            raise UserError("", "exactly one of annotations and posetrack", found)
        if self.posetrack is not None and not isinstance(self.images, str):
            raise UserError("images", "one folder for posetrack", str(list(self.images)))
        num_files = len(_listed(self.annotations))
        if not isinstance(self.images, str) and len(self.images) != num_files:
            expected = f"one folder, or one for each of the {num_files} annotation files"
            raise UserError("images", expected, str(len(self.images)))
        self._check_weights(num_files)

    def _check_weights(self, num_files: int) -> None:
        weights = self.weights
        if weights is None:
            return
        if len(weights) != num_files or not all(0 < weight <= 1 for weight in weights):
            expected = f"a number above 0, up to 1, for each of the {num_files} annotation files"
            raise UserError("weights", expected, str(list(weights)))

    @property
    def coco_files(self) -> tuple[tuple[str, str], ...]:
        """Each annotation file and the folder of its images."""
        annotations, images = _listed(self.annotations), _listed(self.images)
        return tuple(zip(annotations, images * (len(annotations) // len(images)), strict=True))

    @property
    def name(self) -> str:
        """What is read, for errors: the annotation files or the folder of PoseTrack18 files."""
        return self.posetrack or ", ".join(_listed(self.annotations))


@dataclass(frozen=True)
class Data(Strict):
    """Where persons come from, and how many of them are used for what.

    Exactly one source is given: `synthetic`, `synthetic_video`, or `train` and `test`.

    Attributes:
        synthetic: Synthetic images.
        synthetic_video: Synthetic videos.
        train: Training files. The validation split is taken from them too.
        test: Test files, for final metrics only.
        max_train_persons: Use at most this many training persons; null uses all. With `val_from`,
            they are chosen from what the validation split leaves of all files.
        val_persons: Size of the validation split, on which subnets are scored. Whole images, or
            whole PoseTrack videos, are taken out of the training set.
        val_from: Annotation files of `train` that the validation split is taken out of; null takes
            it out of all. The split depends on these files, `val_persons` and the seed only.
        calibration_persons: Number of training crops on which batch norm is calibrated.
        num_workers: Number of worker processes that prepare crops.
        cache: Folder for decoded training crops; null for none.
        detections: COCO results file with boxes on the test images, relative to the dataset root.
            Null evaluates on the annotated boxes.
        detection_threshold: Boxes with a lower score are ignored.
        suppression: How duplicate persons on detected boxes are suppressed (OKS NMS).
        exif: With `ignore`, images are read as stored, without their EXIF orientation.
        categories: Names of the categories of train and test that are read, as one; null reads the
            only one with keypoints.
    """

    RENAMED: ClassVar = {"search_persons": "val_persons"}

    synthetic: SyntheticData | None = None
    synthetic_video: SyntheticVideo | None = None
    train: PoseFiles | None = None
    test: PoseFiles | None = None
    max_train_persons: PositiveInt | None = None
    val_persons: PositiveInt = 400
    val_from: Names | None = None
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
            names = ("synthetic", "synthetic_video", "train", "test")
            given = [name for name in names if getattr(self, name) is not None]
            expected = "exactly one of synthetic, synthetic_video, or train and test"
            raise UserError("", expected, ", ".join(given) or "none")
        if self.test is not None and self.test.weights is not None:
            raise UserError("test.weights", "no such key", str(list(self.test.weights)))
        chosen = self.categories
        if chosen is not None and (
            self.train is None or not chosen or len({*chosen}) < len(chosen)
        ):
            expected = "names of categories of train and test, each once"
            raise UserError("categories", expected, str(list(chosen)))
        self._check_val_from()

    def _check_val_from(self) -> None:
        names = _listed(self.val_from)
        known = _listed(self.train.annotations) if self.train is not None else ()
        if len({*names}) == len(names) and {*names} <= {*known}:
            return
        hint = f"these are {', '.join(known)}" if known else "train has no annotation files"
        expected = "annotation files of train, each once"
        raise UserError("val_from", expected, str(list(names)), hint)

    @property
    def val_places(self) -> tuple[int, ...]:
        """Which of the annotation files of `train` are in `val_from`, from 0, in their order."""
        files = self.train.coco_files if self.train is not None else ()
        names = _listed(self.val_from)
        return tuple(place for place, (name, _) in enumerate(files) if name in names)


@dataclass(frozen=True)
class BoxFit(Strict):
    """How the region of a crop is made from the box of a person.

    Attributes:
        padding: The region is the box, enlarged by this factor. The published networks have 1.25.
        aspect: `extend` the shorter side of the box to the aspect ratio of the input, or `stretch`
            the crop, so that its sides have different scales.
    """

    padding: Annotated[float, Field(gt=0, le=10)] = 1.25
    aspect: Literal["extend", "stretch"] = "extend"


@dataclass(frozen=True)
class Augmentation(Strict):
    """How training crops are augmented; the defaults are the recipe of the published networks.

    Attributes:
        flip_probability: Probability of a horizontal flip.
        rotation_deg: Standard deviation of the rotation in degrees, clipped at twice that.
        rotation_probability: Probability of a rotation.
        scale_factor: Standard deviation of the relative change of size, clipped at once that.
        half_body_probability: Probability that a crop shows half of the body.
        half_body_min_joints: Only persons with more labelled joints than this are halved.
        upper_body_probability: Probability that the half is the upper one.
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
                raise UserError(f"{name}_probability", "a number from 0 to 1", str(share))
        if not 0 <= self.scale_factor < 1:
            raise UserError("scale_factor", "a number from 0 to below 1", str(self.scale_factor))
        if not 0 <= self.rotation_deg <= 180:
            raise UserError("rotation_deg", "a number from 0 to 180", str(self.rotation_deg))


JITTER_LIMIT = 2.0  # in standard deviations, where the jitter is clipped

# The box that a frame is cropped by: that of the key frame; that of the previous frame, as at run
# time, where it comes from the last prediction; or the frame's own, as with annotated boxes.
Follow = Literal["key", "before", "own"]


@dataclass(frozen=True)
class ClipAugmentation(Strict):
    """How training clips are augmented.

    Attributes:
        crop: Flip, rotation, scale and half body, sampled once per clip.
        follow: The frame whose box a frame is cropped by.
        shift: Standard deviation of a shift per frame, as a fraction of the crop's sides. Normal,
            clipped at 2 standard deviations. With "key" and no shift or scale, the crop is fixed.
        scale: Standard deviation of a relative change of size per frame, clipped likewise.
    """

    crop: Augmentation = field(default_factory=Augmentation)
    follow: Follow = "before"
    shift: float = 0.05
    scale: float = 0.05

    def __post_init__(self) -> None:
        for name in ("shift", "scale"):
            if not 0 <= (value := getattr(self, name)) < 1 / JITTER_LIMIT:
                raise UserError(name, f"a number from 0 to below {1 / JITTER_LIMIT}", str(value))
