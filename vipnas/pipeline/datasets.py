"""The people of an experiment: training, validation and test sets, their crops and digests."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

from vipnas.config.clip import VideoConfig
from vipnas.config.data import Augmentation
from vipnas.config.experiment import ExperimentConfig
from vipnas.data.codecs.choose import codec_of
from vipnas.data.codecs.heatmap import HeatmapCodec
from vipnas.data.crops.cache import CropCache, open_crop_cache
from vipnas.data.crops.clips import FixedClips, TrainingClips, clips_of, fixed_clips, spread_clips
from vipnas.data.crops.crops import Crops, fixed_crops
from vipnas.data.crops.loader import TrainingCrops
from vipnas.data.formats.coco import Person, PoseData
from vipnas.data.formats.detections import read_detections
from vipnas.data.formats.posetrack import PoseTrackData
from vipnas.data.formats.skeletons import Skeleton, read_skeleton
from vipnas.errors import UserError
from vipnas.evaluation.evaluator import Evaluator
from vipnas.files import to_plain
from vipnas.pipeline.sources import Sources
from vipnas.settings import content_digest, plain_digest
from vipnas.shipped import find_shipped
from vipnas.space.image import SearchSpace
from vipnas.space.yaml import read_space

Split = Literal["test", "val"]


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
    def sources(self) -> Sources:
        return Sources(
            self.config.data,
            self.data_root,
            self.synthetic,
            self.skeleton,
            self.config.seed,
            self.skip_bad_images,
            self.check_images,
        )

    @cached_property
    def skeleton(self) -> Skeleton:
        return read_skeleton(self.config.skeleton)

    @cached_property
    def space(self) -> SearchSpace:
        space = read_space(find_shipped("search_spaces", self.config.space, ".yaml"))
        space = space.with_facts(self.config.input_hw, self.skeleton.num_joints)
        codec_of(space.max_arch(), self.config.codec, self.config.sigma_px)
        self._check_batch_norm(space)
        return space

    def follow_up_space(self, config: VideoConfig) -> SearchSpace:
        """Return the space of the networks after a key frame, each of an input size of its own.

        The sizes are `video.input_hw`, by default those of the space of images, or of the space
        that is named if it has several.
        """
        space, sizes = self.space, self.space.inputs_hw
        if config.space is not None:
            space = read_space(find_shipped("search_spaces", config.space, ".yaml"))
            sizes = space.inputs_hw if space.has_sizes else sizes
        space = space.with_facts(config.input_hw or sizes, self.space.num_keypoints)
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
            f"{name}.schedule.batch_size": schedule.batch // number
            for name, schedule in schedules.items()
            if schedule.batch_size != "auto"
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
        return codec_of(self.space.max_arch(), self.config.codec, self.config.sigma_px)

    @cached_property
    def _train_and_val(self) -> tuple[PoseData, PoseData]:
        return self.sources.train_and_val()

    @property
    def train_data(self) -> PoseData:
        return self._train_and_val[0]

    @property
    def val_data(self) -> PoseData:
        """The validation split, taken from the training files, which subnets are scored on."""
        return self._train_and_val[1]

    @cached_property
    def test_data(self) -> PoseData:
        """The test split, for final metrics only: neither training nor search see it."""
        return self.sources.read("test")

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

    def videos(self, split: Split | None) -> PoseTrackData:
        """Return the videos of a split, None for training; raises UserError for images."""
        data = self.train_data if split is None else self.data_of(split)
        if not isinstance(data, PoseTrackData):
            raise UserError("data", "videos: PoseTrack or synthetic_video", "images")
        return data

    def training_clips(self, config: VideoConfig, codec: HeatmapCodec) -> TrainingClips:
        """Return all clips of the training videos, augmented, of the size of a codec."""
        return TrainingClips(
            clips_of(self.videos(None), config.num_follow_ups),
            self.skeleton,
            codec,
            config.augmentation,
            self.config.seed,
            self.skip_bad_images,
            self.config.box,
        )

    def clips(
        self, config: VideoConfig, codec: HeatmapCodec, split: Split | None, at_most: int
    ) -> FixedClips:
        """Return some clips of a split, spread over its videos, as they are."""
        clips = spread_clips(self.videos(split), config.num_follow_ups, at_most)
        return fixed_clips(clips, self.skeleton, codec, fit=self.config.box)

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
        return self.sources.settings("train", lambda: (self.train_data, self.val_data))

    @cached_property
    def _test_source(self) -> dict[str, Any]:
        return self.sources.settings("test", lambda: (self.test_data,))

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


def _some_images(data: PoseData, max_persons: int, seed: int) -> PoseData:
    """Return whole images, sampled by the seed, with at most so many people; at least one image."""
    persons_of = Counter(person.image_id for person in data.persons)
    drawn = np.random.default_rng(seed).permutation(sorted(persons_of)).tolist()
    counts = list(accumulate(persons_of[image_id] for image_id in drawn))
    return data.restricted_to(set(drawn[: max(1, bisect_right(counts, max_persons))]))
