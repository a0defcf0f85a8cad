"""The people of an experiment: training, validation and test sets, how they are cropped and scored,
and what they are by content.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

from vipnas.config.data import Augmentation, PoseFiles, SyntheticData, SyntheticVideo
from vipnas.config.experiment import ExperimentConfig
from vipnas.data.codecs.heatmap import HeatmapCodec, make_codec
from vipnas.data.crops.cache import CropCache, open_crop_cache
from vipnas.data.crops.crops import Crops, fixed_crops
from vipnas.data.crops.loader import TrainingCrops
from vipnas.data.formats.coco import Person, PoseData, read_coco
from vipnas.data.formats.detections import read_detections
from vipnas.data.formats.joined import read_coco_files
from vipnas.data.formats.posetrack import read_posetrack
from vipnas.data.formats.posetrack_files import annotation_files
from vipnas.data.formats.reading import Reading
from vipnas.data.formats.skeletons import Skeleton, read_skeleton
from vipnas.data.formats.splits import hold_out, subset
from vipnas.errors import UserError
from vipnas.evaluation.evaluator import Evaluator
from vipnas.files import to_plain
from vipnas.settings import content_digest, listing_digest, plain_digest
from vipnas.shipped import find_shipped
from vipnas.space.image import SearchSpace
from vipnas.space.yaml import read_space
from vipnas.synthetic import images, videos
from vipnas.threads import usable_cores

Split = Literal["test", "val"]
Source = Literal["train", "test"]

# The synthetic test set has another seed than the training set.
TEST_SEED_OFFSET = 1_000_003


@dataclass(frozen=True)
class Datasets:
    """What the data section of an experiment names: found, read and checked on first use.

    Paths of the data are relative to `data_root`; synthetic sets are written below `synthetic`.
    """

    config: ExperimentConfig
    data_root: Path
    synthetic: Path
    skip_bad_images: bool = False
    num_processes: int = 1
    check_images: bool = True

    @cached_property
    def skeleton(self) -> Skeleton:
        return read_skeleton(self.config.skeleton)

    @cached_property
    def space(self) -> SearchSpace:
        space = read_space(find_shipped("search_spaces", self.config.space, ".yaml"))
        space = space.with_facts(self.config.input_hw, self.skeleton.num_joints)
        self._check_batch_norm(space)
        return space

    def _check_batch_norm(self, space: SearchSpace) -> None:
        """Batch norm needs two values of a channel: of one pixel, two images."""
        config, smallest = self.config, space.min_arch()
        if smallest.input_hw != (smallest.total_stride, smallest.total_stride):
            return
        schedules = {"retrain": config.retrain.schedule}
        if config.supernet is not None:
            schedules["supernet"] = config.supernet.schedule
        if config.video is not None:
            schedules["video.supernet"] = config.video.supernet.schedule
            schedules["video.retrain"] = config.video.retrain.schedule
        number = 1 if config.compute.synchronise_batch_norm else self.num_processes
        sizes = {
            f"{name}.schedule.batch_size": schedule.batch_size // number
            for name, schedule in schedules.items()
        }
        rest = config.data.calibration_persons % config.evaluation_batch_size
        sizes["data.calibration_persons, in the last batch"] = rest or config.evaluation_batch_size
        for name, size in sizes.items():
            if size < 2:
                hint = f"the last stage sees 1 x 1 pixel of input_hw {list(smallest.input_hw)}"
                expected = "2 or more images at a time for batch norm"
                raise UserError(name, expected, str(size), hint)

    @cached_property
    def codec(self) -> HeatmapCodec:
        arch = self.space.max_arch()
        config = self.config
        return make_codec(config.codec, arch.input_hw, arch.heatmap_hw, config.sigma_px)

    @cached_property
    def _train_and_val(self) -> tuple[PoseData, PoseData]:
        data, config = self._read("train"), self.config.data
        if config.max_train_persons is not None:
            num_persons = config.max_train_persons + config.val_persons
            with self._errors_name("data.max_train_persons"):
                data = subset(data, num_persons, self.config.seed)
        with self._errors_name("data.val_persons"):
            return hold_out(data, config.val_persons, self.config.seed)

    @contextmanager
    def _errors_name(self, setting: str) -> Iterator[None]:
        """Name the training set's file, and the setting that asks for more than it holds."""
        files = self.config.data.train
        place = self.synthetic / "train"
        if files is not None:
            place = self.data_root / files.name
        try:
            yield
        except UserError as error:
            raise error.inside(f"{place}: {setting}") from None
        except ValueError as error:
            raise ValueError(f"{place}: {setting}: {error}") from None

    @property
    def train_data(self) -> PoseData:
        return self._train_and_val[0]

    @property
    def val_data(self) -> PoseData:
        """The validation split, taken from the training images, which subnets are scored on."""
        return self._train_and_val[1]

    @cached_property
    def test_data(self) -> PoseData:
        """The test split, for final metrics only: neither training nor search see it."""
        return self._read("test")

    @cached_property
    def training_crops(self) -> TrainingCrops:
        return TrainingCrops(
            self.train_data.persons,
            self.skeleton,
            self.space.input_hw,
            self.config.augmentation,
            self.config.seed,
            self.skip_bad_images,
            self.codec.span_hw,
            self._crop_cache(),
            fit=self.config.box,
        )

    @cached_property
    def calibration_images(self) -> Tensor:
        """Augmented training crops (N, 3, H, W), uint8: what batch norm is measured on."""
        persons = self.train_data.persons[: self.config.data.calibration_persons]
        return self._crops(persons, self.config.augmentation).images_B3HW

    def data_of(self, split: Split) -> PoseData:
        """Return the people that `evaluator(split)` scores on."""
        return self.test_data if split == "test" else self.val_data

    def evaluator(self, split: Split, max_persons: int | None = None) -> Evaluator:
        """Score networks on all persons of a split, or on so many, whose crops are made here."""
        data = self.data_of(split)
        if max_persons is not None:
            data = _some_images(data, max_persons, self.config.seed)
        persons, scores_of, suppression = data.persons, None, None
        if split == "test" and self.config.data.detections is not None:
            file = self.data_root / self.config.data.detections
            found = read_detections(file, data, self.config.data.detection_threshold)
            persons, suppression = found.persons, self.config.data.suppression
            pairs = zip(persons, found.scores_N, strict=True)
            scores_of = {person.annotation_id: score for person, score in pairs}
        crops = self._crops(persons)
        box_scores_N = None
        if scores_of is not None:
            box_scores_N = np.array([scores_of[person.annotation_id] for person in crops.persons])
        return Evaluator(
            crops,
            data.ground_truth,
            self.skeleton,
            self.codec,
            self.config.evaluation_batch_size,
            self.config.flip_test,
            box_scores_N,
            suppression,
        )

    def skeleton_settings(self) -> dict[str, Any]:
        """Return what results depend on: neither the name nor the limbs, which are only drawn."""
        plain = to_plain(self.skeleton)
        return {key: plain[key] for key in plain if key not in ("name", "limbs")}

    def train_settings(self) -> dict[str, Any]:
        """Return what decides the training and the validation set, and the calibration crops."""
        config = self.config.data
        return {
            **self._train_source,
            "max_persons": config.max_train_persons,
            "val_persons": config.val_persons,
            "calibration_persons": config.calibration_persons,
        }

    def test_settings(self) -> dict[str, Any]:
        """Return what decides the test set, and the boxes that it is scored with."""
        config = self.config.data
        if config.detections is None:
            return self._test_source
        return {
            **self._test_source,
            "detections": content_digest(self.data_root / config.detections),
            "detection_threshold": config.detection_threshold,
            "suppression": config.suppression,
        }

    def digests(self) -> dict[str, str]:
        """Return a fingerprint of each part of the data by content, for a model's provenance."""
        return {
            "train": plain_digest(self.train_settings()),
            "test": plain_digest(self.test_settings()),
            "skeleton": plain_digest(self.skeleton_settings()),
            "space": plain_digest(self.space.to_plain()),
        }

    @cached_property
    def _train_source(self) -> dict[str, Any]:
        return self._source("train")

    @cached_property
    def _test_source(self) -> dict[str, Any]:
        return self._source("test")

    def _source(self, source: Source) -> dict[str, Any]:
        """Say what files hold, or which synthetic set it is: that needs no look at its files."""
        config = self.config.data
        if config.synthetic is not None:
            return {"synthetic": images.settings_of(**self._images(config.synthetic, source))}
        if config.synthetic_video is not None:
            settings = videos.settings_of(**self._videos(config.synthetic_video, source))
            return {"synthetic_video": settings}
        files = self._files(source)
        paths = [self.data_root / annotations for annotations, _ in files.coco_files]
        if files.posetrack is not None:
            paths = annotation_files(self.data_root / files.posetrack)
        digests = [content_digest(path) for path in paths]
        chosen = {
            "categories": config.categories,
            "exif": config.exif,
            "weights": files.weights,
        }
        parts = (self.train_data, self.val_data) if source == "train" else (self.test_data,)
        named = [
            (image["file_name"], part.image_root / image["file_name"])
            for part in parts
            for image in part.ground_truth["images"]
        ]
        return {
            "annotations": digests[0] if len(digests) == 1 else plain_digest(digests),
            "images": listing_digest(named),
            **{name: to_plain(value) for name, value in chosen.items() if value is not None},
        }

    def _files(self, source: Source) -> PoseFiles:
        files = self.config.data.train if source == "train" else self.config.data.test
        assert files is not None
        return files

    def _crops(self, persons: Sequence[Person], augmentation: Augmentation | None = None) -> Crops:
        return fixed_crops(
            persons,
            self.skeleton,
            self.space.input_hw,
            augmentation,
            self.config.seed,
            self.codec.span_hw,
            self.config.box,
        )

    def _crop_cache(self) -> CropCache | None:
        if self.config.data.cache is None:
            return None
        return open_crop_cache(
            Path(self.config.data.cache),
            self.train_data.persons,
            self.skeleton,
            self.codec.span_hw,
            self.config.augmentation,
            self.config.box,
        )

    def _read(self, source: Source) -> PoseData:
        config, directory = self.config.data, self.synthetic / source
        num_workers = usable_cores()
        if config.synthetic is not None:
            drawn = self._images(config.synthetic, source)
            images.synthesize(directory, **drawn, num_workers=num_workers)
            return read_coco(directory / images.ANNOTATIONS, directory / "images", self.skeleton)
        if config.synthetic_video is not None:
            drawn = self._videos(config.synthetic_video, source)
            videos.synthesize_video(directory, **drawn, num_workers=num_workers)
            return read_posetrack(directory / "annotations", directory, self.skeleton)
        files = self._files(source)
        if files.posetrack is not None:
            assert isinstance(files.images, str)
            paths = self.data_root / files.posetrack, self.data_root / files.images
            return read_posetrack(*paths, self.skeleton, self._reading)
        coco_files = [
            (self.data_root / annotations, self.data_root / images)
            for annotations, images in files.coco_files
        ]
        is_train = source == "train"
        return read_coco_files(coco_files, self.skeleton, self._reading, is_train, files.weights)

    @property
    def _reading(self) -> Reading:
        data = self.config.data
        return Reading(
            self.skip_bad_images,
            data.exif == "ignore",
            data.categories,
            check_images=self.check_images or self.skip_bad_images,  # only checks tell what to skip
        )

    def _images(self, config: SyntheticData, source: Source) -> dict[str, Any]:
        train = source == "train"
        return {
            "num_images": config.num_train_images if train else config.num_test_images,
            "seed": self._synthetic_seed(source),
            "image_hw": config.image_hw,
            "people_per_image": config.people_per_image,
            "difficulty": config.difficulty,
        }

    def _videos(self, config: SyntheticVideo, source: Source) -> dict[str, Any]:
        train = source == "train"
        own = config.num_train_frames if train else None
        return {
            "num_videos": config.num_train_videos if train else config.num_test_videos,
            "seed": self._synthetic_seed(source),
            "num_frames": own or config.num_frames,
            "image_hw": config.image_hw,
            "people_per_video": config.people_per_video,
            "difficulty": config.difficulty,
            "speed": config.speed,
        }

    def _synthetic_seed(self, source: Source) -> int:
        return self.config.seed + (TEST_SEED_OFFSET if source == "test" else 0)


def _some_images(data: PoseData, max_persons: int, seed: int) -> PoseData:
    """Whole images, drawn by the seed, with about so many people; at least one image."""
    persons_of = Counter(person.image_id for person in data.persons)
    drawn = np.random.default_rng(seed).permutation(sorted(persons_of)).tolist()
    counts = list(accumulate(persons_of[image_id] for image_id in drawn))
    return data.restricted_to(set(drawn[: max(1, bisect_right(counts, max_persons))]))
