"""Run the networks of a clip on whole videos, as at run time."""

from __future__ import annotations

from vipnas.config.clip import Boxes
from vipnas.data.formats.posetrack import PoseTrackData
from vipnas.data.poses import TrackedPose
from vipnas.evaluation.online import OnlineLoop
from vipnas.models.clipnet import VideoNet
from vipnas.pipeline.experiment import Experiment
from vipnas.pipeline.work import needed


def run_online(
    experiment: Experiment, network: VideoNet, data: PoseTrackData, boxes: Boxes | None = None
) -> list[TrackedPose]:
    """Return the poses in all labelled frames of videos, with the crops of an experiment.

    `boxes` are by default those of its section `video`.
    """
    config = experiment.config
    loop = OnlineLoop(
        network.to(experiment.device),
        experiment.skeleton,
        experiment.codec,
        boxes or needed(experiment, config.video, "video").boxes,
        config.evaluation_batch_size,
        config.box,
    )
    return loop(data.videos)
