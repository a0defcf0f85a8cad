"""Run the networks of a clip on whole videos, as at run time."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from vipnas.arch.clip import KeyFrameRule
from vipnas.config.clip import Boxes, KeyFramesByNeed, VideoConfig
from vipnas.data.formats.posetrack import PoseTrackData
from vipnas.data.poses import TrackedPose
from vipnas.evaluation.key_frames import chosen_rule
from vipnas.evaluation.online import OnlineLoop, video_scores
from vipnas.files import to_plain
from vipnas.models.clipnet import VideoNet
from vipnas.models.counting import cost_at, mean_cost
from vipnas.models.file import read_clip, read_header, write_model
from vipnas.pipeline.experiment import Experiment
from vipnas.pipeline.models import finite_heatmaps_of, open_clip
from vipnas.pipeline.work import needed
from vipnas.quantities import MACS

log = logging.getLogger(__name__)


def run_online(
    experiment: Experiment,
    network: VideoNet,
    data: PoseTrackData,
    boxes: Boxes | None = None,
    rule: KeyFrameRule | None = None,
) -> list[TrackedPose]:
    """Return the poses in all labelled frames of videos, with the crops of an experiment.

    `boxes` are by default those of its section `video`. `rule` says when key frames come by need.
    """
    return _loop(experiment, network, boxes, rule)(data.videos)


def _loop(
    experiment: Experiment, network: VideoNet, boxes: Boxes | None, rule: KeyFrameRule | None
) -> OnlineLoop:
    return OnlineLoop(
        network.to(experiment.device),
        experiment.skeleton,
        experiment.codec,
        boxes or _config(experiment).boxes,
        experiment.config.evaluation_batch_size,
        experiment.config.box,
        rule,
    )


def _config(experiment: Experiment) -> VideoConfig:
    return needed(experiment, experiment.config.video, "video")


def rule_within(
    experiment: Experiment,
    network: VideoNet,
    settings: KeyFramesByNeed,
    val: PoseTrackData,
    max_macs: int,
) -> KeyFrameRule | None:
    """Return the rule with the lowest threshold that keeps a budget on the validation videos.

    `max_macs` are those of a mean frame of a person. None: no threshold keeps them.
    """
    videos = val.videos[: settings.val_videos]

    def keeps_budget(rule: KeyFrameRule) -> bool:
        distances = _loop(experiment, network, None, rule).distances(videos)
        return cost_at(network.arch, distances).macs <= max_macs

    return chosen_rule(settings.trigger, settings.max_interval, keeps_budget)


def choose_key_frames(experiment: Experiment, path: Path, val: Callable[[], PoseTrackData]) -> bool:
    """Choose when key frames come, as the experiment says, and write it into the file of a clip.

    The budget is the mean cost of the fixed clock, which stays if no threshold keeps it.

    Returns:
        Whether the file changed.
    """
    network, header = read_clip(path)
    rule, settings = None, _config(experiment).key_frames
    if settings is not None:
        max_macs = mean_cost(network.arch).macs
        with finite_heatmaps_of(path):
            rule = rule_within(experiment, network, settings, val(), max_macs)
        if rule is None:
            log.warning("%s: no threshold keeps the mean cost of the clock, which stays", path)
    if rule == header.key_frames:
        return False
    write_model(path, network.cpu(), replace(header, key_frames=rule))
    return True


def online_metrics(
    experiment: Experiment, path: Path, data: PoseTrackData
) -> tuple[dict[str, Any], list[TrackedPose]]:
    """Return the metrics of the file of a clip, with its key frames, as plain values; its poses."""
    network, rule = open_clip(experiment, path), read_header(path).key_frames
    with finite_heatmaps_of(path):
        found = run_online(experiment, network, data, rule=rule)
    metrics = {name: to_plain(score) for name, score in video_scores(data, found).items()}
    if rule is not None:
        metrics["key_frames"] = key_frame_metrics(network, found)
    return metrics, found


def key_frame_metrics(network: VideoNet, found: list[TrackedPose]) -> dict[str, float]:
    """Return the share of key frames among poses, and the mean MACs of a frame."""
    distances = [pose.distance for pose in found]
    share = distances.count(0) / max(len(distances), 1)
    return {"share": share, MACS.name: cost_at(network.arch, distances).macs}
