"""The temporal level of an experiment, opened: its parts, and where its results are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from vipnas.config.clip import Boxes, Exposure, VideoConfig
from vipnas.data.crops.clips import Clip, FixedClips, TrainingClips, clips_of, fixed_clips
from vipnas.data.formats.posetrack import PoseTrackData
from vipnas.evaluation.clips import ClipEvaluator, KeyedClips, with_key_frames
from vipnas.evaluation.online import OnlineLoop
from vipnas.files import to_plain
from vipnas.models.clipnet import VideoNet
from vipnas.models.posenet import PoseNet
from vipnas.pipeline.experiment import Experiment, Split
from vipnas.pipeline.retrain import network_file
from vipnas.pipeline.work import needed
from vipnas.settings import content_digest
from vipnas.shipped import find_shipped
from vipnas.space.clip import VideoSpace
from vipnas.space.image import SearchSpace
from vipnas.space.yaml import read_space
from vipnas.training.checkpoint import load_network
from vipnas.training.clip_step import ClipStep


def video_folder(experiment: Experiment) -> Path:
    return experiment.folder.clips.root


def clip_best_file(experiment: Experiment, method: str | None = None) -> Path:
    """The clip's arch that a method found; the experiment's searcher by default."""
    name = "random_best.json" if method == "random" else "best.json"
    return experiment.folder.clips.search / name


def existing_video_best(experiment: Experiment) -> Path:
    """Raises ValueError where nothing was searched yet."""
    file = clip_best_file(experiment)
    if not file.exists():
        raise ValueError(
            f"{file}: no arch found yet; run `vipnas video search` first or give --arch"
        )
    return file


def video_weights_file(experiment: Experiment, name: str = "retrain") -> Path:
    folder = experiment.folder.clips
    return (folder.retrain if name == "retrain" else folder.root / name) / "video.pt"


def video_supernet_file(experiment: Experiment) -> Path:
    return experiment.folder.clips.supernet / "supernet.pt"


@dataclass(frozen=True)
class VideoLevel:
    """An experiment's temporal level, opened: its parts, each made when first needed."""

    experiment: Experiment

    @cached_property
    def config(self) -> VideoConfig:
        return needed(self.experiment.config.video, "video")

    @cached_property
    def key_frame_file(self) -> Path:
        path = network_file(replace(self.experiment, search_name=None))
        if not path.exists():
            raise ValueError(f"{path}: no network for the key frames; run `vipnas retrain` first")
        return path

    @cached_property
    def key_frame(self) -> PoseNet:
        return load_network(self.key_frame_file).to(self.experiment.device)

    @cached_property
    def space(self) -> VideoSpace:
        return VideoSpace(
            self.key_frame.arch,
            self._image_space(),
            self.config.fusion.options,
            self.config.num_follow_ups,
        )

    def _image_space(self) -> SearchSpace:
        own = self.experiment.space
        if self.config.space is None:
            return own
        space = read_space(find_shipped("search_spaces", self.config.space, ".yaml"))
        return space.with_facts(own.input_hw, own.num_keypoints)

    def videos(self, split: Split | None) -> PoseTrackData:
        """Of a split; None is for training."""
        experiment = self.experiment
        data = experiment.train_data if split is None else experiment.data_of(split)
        if not isinstance(data, PoseTrackData):
            raise ValueError("data: the section video needs videos: PoseTrack or synthetic_video")
        return data

    @cached_property
    def training_clips(self) -> TrainingClips:
        experiment = self.experiment
        return TrainingClips(
            clips_of(self.videos(None), self.config.num_follow_ups),
            experiment.skeleton,
            experiment.codec,
            self.config.augmentation,
            experiment.config.seed,
            experiment.skip_bad_images,
        )

    def keyed_clips(self, split: Split | None, at_most: int) -> KeyedClips:
        """Clips that do not overlap, spread over the videos, with their key frames' heatmaps."""
        length = self.config.num_follow_ups + 1
        clips = clips_of(self.videos(split), self.config.num_follow_ups, stride=length)
        chosen = _spread(len(clips), at_most)
        fixed = self._fixed([clips[place] for place in chosen])
        return with_key_frames(fixed, self.key_frame, self.batch_size)

    def _fixed(self, clips: Sequence[Clip]) -> FixedClips:
        return fixed_clips(clips, self.experiment.skeleton, self.experiment.codec)

    @property
    def batch_size(self) -> int:
        return self.experiment.config.evaluation_batch_size

    @cached_property
    def calibration(self) -> KeyedClips:
        return self.keyed_clips(None, self.config.calibration_clips)

    def evaluator(self, split: Split, at_most: int) -> ClipEvaluator:
        return ClipEvaluator(
            self.keyed_clips(split, at_most),
            self.videos(split).ground_truth,
            self.experiment.skeleton,
            self.experiment.codec,
            self.batch_size,
        )

    def step_of(self, exposure: Exposure) -> ClipStep:
        precision = self.experiment.config.compute.precision
        return ClipStep(self.key_frame, self.experiment.codec, exposure, precision)

    def online(self, network: VideoNet, boxes: Boxes | None = None) -> OnlineLoop:
        return OnlineLoop(
            network.to(self.experiment.device),
            self.experiment.skeleton,
            self.experiment.codec,
            boxes or self.config.boxes,
            self.batch_size,
        )

    def settings(self) -> dict[str, Any]:
        """All that any training of the temporal level depends on, as plain values."""
        return {
            **self.experiment.training_settings(),
            "key_frame": content_digest(self.key_frame_file),
            "num_follow_ups": self.config.num_follow_ups,
            "clip_augmentation": to_plain(self.config.augmentation),
            "training_clips": len(self.training_clips),
        }


def _spread(count: int, at_most: int) -> list[int]:
    """At most so many of `count` places, evenly spread."""
    kept = min(count, at_most)
    return [count * place // kept for place in range(kept)]
