"""An experiment, opened: the parts its commands are built from, each made when first needed."""

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
import torch
from torch import Tensor

from vipnas.config.data import Augmentation, PoseFiles, SyntheticData, SyntheticVideo
from vipnas.config.experiment import ExperimentConfig, read_experiment
from vipnas.config.training import Compute
from vipnas.data.codecs.heatmap import HeatmapCodec, make_codec
from vipnas.data.crops.cache import CropCache, open_crop_cache
from vipnas.data.crops.crops import Crops, fixed_crops
from vipnas.data.crops.loader import TrainingCrops
from vipnas.data.formats.coco import Person, PoseData, hold_out, read_coco, subset
from vipnas.data.formats.detections import read_detections
from vipnas.data.formats.joined import read_coco_files
from vipnas.data.formats.posetrack import read_posetrack
from vipnas.data.formats.reading import Reading
from vipnas.data.formats.skeletons import Skeleton, read_skeleton
from vipnas.evaluation.evaluator import Evaluator
from vipnas.files import to_plain
from vipnas.shipped import find_shipped
from vipnas.space.image import SearchSpace
from vipnas.space.yaml import read_space
from vipnas.synthetic.images import ANNOTATIONS, synthesize
from vipnas.synthetic.videos import synthesize_video
from vipnas.threads import usable_cores
from vipnas.training.distributed import ALONE, Processes

Split = Literal["test", "val"]

# Drawn test people come of another seed than those of training.
TEST_SEED_OFFSET = 1_000_003


@dataclass(frozen=True)
class Experiment:
    """What an experiment's YAML names: found, read and checked on first use.

    `output` is the folder of this run; paths of the data are relative to `data_root`. Without
    `check_images` annotation files can be read where their images are not.
    """

    config: ExperimentConfig
    output: Path
    data_root: Path
    device: torch.device
    skip_bad_images: bool = False
    processes: Processes = ALONE
    check_images: bool = True

    @classmethod
    def open(
        cls,
        name: str | Path,
        output: Path | None,
        data_root: Path,
        device: torch.device,
        skip_bad_images: bool = False,
    ) -> Experiment:
        """Of a file or a shipped name; without `output` the run is `runs/NAME`."""
        path = find_shipped("experiments", str(name))
        output = output or Path("runs") / path.stem
        return cls(read_experiment(path), output, data_root, device, skip_bad_images)

    @cached_property
    def skeleton(self) -> Skeleton:
        return read_skeleton(self.config.skeleton)

    @cached_property
    def space(self) -> SearchSpace:
        space = read_space(find_shipped("search_spaces", self.config.space, ".yaml"))
        return space.with_facts(self.config.input_hw, self.skeleton.num_joints)

    @cached_property
    def codec(self) -> HeatmapCodec:
        arch = self.space.max_arch()
        config = self.config
        return make_codec(config.codec, arch.input_hw, arch.heatmap_hw, config.sigma_px)

    @cached_property
    def _train_and_val(self) -> tuple[PoseData, PoseData]:
        data, config = self._read("train"), self.config.data
        if config.max_train_persons is not None:
            data = subset(data, config.max_train_persons + config.val_persons, self.config.seed)
        return hold_out(data, config.val_persons, self.config.seed)

    @property
    def train_data(self) -> PoseData:
        return self._train_and_val[0]

    @property
    def val_data(self) -> PoseData:
        """Held out of the training images: what subnets are scored on."""
        return self._train_and_val[1]

    @cached_property
    def test_data(self) -> PoseData:
        """For final figures only: neither training nor search see it."""
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
        )

    @cached_property
    def calibration_images(self) -> Tensor:
        """Augmented training crops (N, 3, H, W), uint8: what batch norm is measured on."""
        persons = self.train_data.persons[: self.config.data.calibration_persons]
        return self._crops(persons, self.config.augmentation).images_B3HW

    def data_of(self, split: Split) -> PoseData:
        """The people that `evaluator(split)` scores on."""
        return self.test_data if split == "test" else self.val_data

    def _crops(self, persons: Sequence[Person], augmentation: Augmentation | None = None) -> Crops:
        return fixed_crops(
            persons,
            self.skeleton,
            self.space.input_hw,
            augmentation,
            self.config.seed,
            self.codec.span_hw,
        )

    def evaluator(self, split: Split, max_persons: int | None = None) -> Evaluator:
        """Scores networks on all persons of a split, or on so many, whose crops are made here."""
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

    def _crop_cache(self) -> CropCache | None:
        if self.config.data.cache is None:
            return None
        return open_crop_cache(
            Path(self.config.data.cache),
            self.train_data.persons,
            self.skeleton,
            self.codec.span_hw,
            self.config.augmentation,
        )

    def training_settings(self) -> dict[str, Any]:
        """All that any training of this experiment depends on, as plain values."""
        config = self.config
        return {
            "seed": config.seed,
            "space": self.space.to_plain(),
            "skeleton": self.skeleton.name,
            "data": self._data_settings("num_workers", "cache"),
            "train_persons": len(self.train_data.persons),
            "augmentation": to_plain(config.augmentation),
            "udp": config.codec == "udp",
            "sigma_px": config.sigma_px,
            **({} if config.compute == Compute() else {"compute": to_plain(config.compute)}),
        }

    def scoring_settings(self) -> dict[str, Any]:
        """All that figures on the test set depend on, beside the network, as plain values."""
        config = self.config
        return {
            "data": self._data_settings("num_workers", "cache", "calibration_persons"),
            "skeleton": self.skeleton.name,
            "codec": config.codec,
            "sigma_px": config.sigma_px,
            "flip_test": config.flip_test,
        }

    def _data_settings(self, *without: str) -> dict[str, Any]:
        """Those that are given: so a new option does not disown the results made before it."""
        data = to_plain(self.config.data)
        return {key: data[key] for key in data if key not in without and data[key] is not None}

    @property
    def _reading(self) -> Reading:
        data = self.config.data
        return Reading(
            self.skip_bad_images,
            data.exif == "ignore",
            data.categories,
            check_images=self.check_images or self.skip_bad_images,  # only checks tell what to skip
        )

    def _read(self, split: str) -> PoseData:
        config = self.config.data
        if config.synthetic is not None:
            return self._read_synthetic(config.synthetic, split)
        if config.synthetic_video is not None:
            return self._read_synthetic_video(config.synthetic_video, split)
        files: PoseFiles | None = getattr(config, split)
        assert files is not None
        if files.posetrack is not None:
            assert isinstance(files.images, str)
            paths = self.data_root / files.posetrack, self.data_root / files.images
            return read_posetrack(*paths, self.skeleton, self._reading)
        coco_files = [
            (self.data_root / annotations, self.data_root / images)
            for annotations, images in files.coco_files
        ]
        renumber = split == "train"
        return read_coco_files(coco_files, self.skeleton, self._reading, renumber)

    def _read_synthetic(self, config: SyntheticData, split: str) -> PoseData:
        directory = self.output / "data" / split
        synthesize(
            directory,
            getattr(config, f"num_{split}_images"),
            self._synthetic_seed(split),
            config.image_hw,
            config.people_per_image,
            usable_cores(),
            config.difficulty,
        )
        return read_coco(directory / ANNOTATIONS, directory / "images", self.skeleton)

    def _read_synthetic_video(self, config: SyntheticVideo, split: str) -> PoseData:
        directory = self.output / "data" / split
        own = config.num_train_frames if split == "train" else None
        synthesize_video(
            directory,
            getattr(config, f"num_{split}_videos"),
            self._synthetic_seed(split),
            own or config.num_frames,
            config.image_hw,
            config.people_per_video,
            usable_cores(),
            config.difficulty,
            config.speed,
        )
        return read_posetrack(directory / "annotations", directory, self.skeleton)

    def _synthetic_seed(self, split: str) -> int:
        return self.config.seed + (TEST_SEED_OFFSET if split == "test" else 0)


def _some_images(data: PoseData, max_persons: int, seed: int) -> PoseData:
    """Whole images, drawn by the seed, with about so many people; at least one image."""
    persons_of = Counter(person.image_id for person in data.persons)
    drawn = np.random.default_rng(seed).permutation(sorted(persons_of)).tolist()
    counts = list(accumulate(persons_of[image_id] for image_id in drawn))
    return data.restricted_to(set(drawn[: max(1, bisect_right(counts, max_persons))]))
