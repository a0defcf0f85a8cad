"""The videos of an experiment, and the clips that its temporal level trains and scores on."""

from __future__ import annotations

from vipnas.config.clip import VideoConfig
from vipnas.data.crops.clips import FixedClips, TrainingClips, clips_of, fixed_clips, spread_clips
from vipnas.data.formats.posetrack import PoseTrackData
from vipnas.errors import UserError
from vipnas.pipeline.experiment import Experiment, Split


def videos_of(experiment: Experiment, split: Split | None) -> PoseTrackData:
    """Return the videos of a split; None is for training.

    Raises:
        UserError: If the data are images.
    """
    data = experiment.train_data if split is None else experiment.data_of(split)
    if not isinstance(data, PoseTrackData):
        raise UserError("data", "videos: PoseTrack or synthetic_video", "images")
    return data


def training_clips(experiment: Experiment, config: VideoConfig) -> TrainingClips:
    """Return all clips of the training videos, augmented."""
    return TrainingClips(
        clips_of(videos_of(experiment, None), config.num_follow_ups),
        experiment.skeleton,
        experiment.codec,
        config.augmentation,
        experiment.config.seed,
        experiment.skip_bad_images,
        experiment.config.box,
    )


def some_clips(
    experiment: Experiment, config: VideoConfig, split: Split | None, at_most: int
) -> FixedClips:
    """Return some clips of a split, spread over its videos, as they are."""
    clips = spread_clips(videos_of(experiment, split), config.num_follow_ups, at_most)
    return fixed_clips(clips, experiment.skeleton, experiment.codec, fit=experiment.config.box)
