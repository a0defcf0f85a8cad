"""The temporal level: supernet of the follow-up frames, search over fusions and over how compute is
spent along a clip, training of the networks found. The key frame's network is what `retrain` left.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vipnas.arch.clip import VideoArch
from vipnas.arch.io import read_video_arch, write_video_arch
from vipnas.config.clip import Boxes
from vipnas.config.search import SearchConfig
from vipnas.config.training import Schedule
from vipnas.data.formats.posetrack import PoseTrackData
from vipnas.data.poses import TrackedPose
from vipnas.evaluation.clips import InheritedClipScore, calibrate_along
from vipnas.evaluation.protocols import Score, protocols_for, score
from vipnas.files import to_plain, write_atomically
from vipnas.models.clipnet import FollowUpNet, FollowUpNets, VideoNet, extract_video
from vipnas.models.counting import mean_cost
from vipnas.models.posenet import insert
from vipnas.pipeline.clip_level import (
    VideoLevel,
    clip_best_file,
    video_supernet_file,
    video_weights_file,
)
from vipnas.pipeline.experiment import Experiment, Split
from vipnas.pipeline.retrain import digest_of, is_measured
from vipnas.pipeline.scorer import in_worker, opened_workers, search_settings
from vipnas.pipeline.search import (
    check_budgets,
    cost_of_images,
    found_by,
    run_methods,
    searchers_of,
    write_fronts,
)
from vipnas.pipeline.supernet import supernet_file
from vipnas.pipeline.work import at_work, run_training, timed
from vipnas.search.constraints import CostOf
from vipnas.search.journal import Journal
from vipnas.search.parallel import RaySettings
from vipnas.search.trial import Trial
from vipnas.search.workers import Evaluate
from vipnas.settings import content_digest
from vipnas.training.callbacks.monitor import Monitor
from vipnas.training.checkpoint import load_network
from vipnas.training.clip_checkpoint import (
    load_follow_up_supernet,
    load_video,
    save_follow_up_supernet,
    save_video,
)
from vipnas.training.clip_step import (
    clip_archs_of_step,
    slices_of,
    video_retrain_backward,
    video_supernet_backward,
)
from vipnas.training.loop import Backward
from vipnas.training.randomness import seed_process


def train_clips(
    level: VideoLevel,
    directory: Path,
    network: nn.Module,
    schedule: Schedule,
    backward: Backward,
    settings: dict[str, Any],
) -> nn.Module:
    """`run_training` on the clips of the level."""
    return run_training(
        level.experiment,
        directory,
        network,
        level.training_clips,
        schedule,
        backward,
        settings,
        lambda training, _: Monitor(directory, training),
    )


def train_video_supernet(experiment: Experiment) -> Path:
    """Train the supernet of the follow-up frames. Where both have the same largest arch, it starts
    with the weights of the supernet of images, and with those of the key frame's network in the
    place that they came from: that has been trained for longer."""
    level, target = VideoLevel(experiment), video_supernet_file(experiment)
    config, space = level.config.supernet, level.space
    with at_work(experiment, target.parent):
        settings = {
            **level.settings(),
            "fusions": [str(fusion or "none") for fusion in space.fusions],
            "video_supernet": to_plain(config),
            "init_from": digest_of(_starts_from(level)),
        }
        if not experiment.folder.is_done(target, settings):
            _train_supernet(level, target, settings)
    return target


def _starts_from(level: VideoLevel) -> Path | None:
    """The supernet of images, where it has the same largest arch."""
    file = supernet_file(level.experiment)
    same = level.experiment.space.max_arch() == level.space.image_space.max_arch()
    return file if same and file.exists() else None


def _train_supernet(level: VideoLevel, target: Path, settings: dict[str, Any]) -> None:
    experiment, config, space = level.experiment, level.config.supernet, level.space
    starts_from = _starts_from(level)
    seed_process(experiment.config.seed)
    fusions = [fusion for fusion in space.fusions if fusion is not None]
    supernet = FollowUpNet(space.image_space.max_arch(), fusions)
    if starts_from is not None:
        supernet.posenet = load_network(starts_from, space.image_space.max_arch())
        insert(level.key_frame, supernet.posenet)
    archs_of = partial(clip_archs_of_step, space, experiment.config.seed, config.sampling)
    backward = video_supernet_backward(
        level.step_of(config.exposure), supernet.to(experiment.device), archs_of
    )
    is_first = experiment.processes.is_first
    with timed(target.parent, is_first):
        trained = train_clips(level, target.parent, supernet, config.schedule, backward, settings)
        assert isinstance(trained, FollowUpNet)
        if is_first:
            save_follow_up_supernet(target, trained)
            experiment.folder.mark_done(target, settings)
    print(f"video supernet: trained; {target}")


def search_video(experiment: Experiment, ray: RaySettings | None = None) -> Path:
    """Search fusions and networks of all follow-up frames together, and at random beside;
    `video/search/best.json` is the clip's arch with the best score within the budgets."""
    level = VideoLevel(experiment)
    config, seed = level.config.search, experiment.config.seed
    cost_of, costs = _cost_of(config, level)
    searchers = searchers_of(config, level.space, seed, cost_of)
    directory = clip_best_file(experiment).parent

    def write_best(method: str, best: Trial) -> None:
        _write_best(clip_best_file(experiment, method), best)

    with at_work(experiment, directory):
        journal = Journal(directory / "trials.jsonl", {**_search_settings(level), **costs})
        with timed(directory), opened_workers(_ClipScorer(level), config, ray) as workers:
            trials = run_methods(config, searchers, workers, cost_of, journal, write_best)
        write_fronts(directory, config, trials)
    return clip_best_file(experiment)


def _cost_of(
    config: SearchConfig, level: VideoLevel
) -> tuple[CostOf[VideoArch], dict[str, str | None]]:
    """What a frame of a clip costs on average, and what of it the journal must know."""
    image_cost, costs = cost_of_images(config, level.space.image_space)
    return partial(mean_cost, image_cost=image_cost), costs


@dataclass(frozen=True)
class _ClipScorer:
    """Makes the function that scores clip archs with the weights of the trained supernet, in this
    process or, pickled, in a worker."""

    level: VideoLevel

    def __call__(self) -> Evaluate[VideoArch]:
        return in_worker(clip_score(self.level), self.level.experiment.device, self._threads)

    @property
    def _threads(self) -> int:
        return self.level.config.search.threads

    def __reduce__(self) -> tuple[Any, ...]:
        # Ray numbers the GPUs anew that it lets a worker see.
        device = torch.device(self.level.experiment.device.type)
        return partial, (in_worker, clip_score(self.level), device, self._threads)


def clip_score(level: VideoLevel) -> InheritedClipScore:
    """Scores clip archs with the weights of the trained supernet, on the held-out videos."""
    supernet = load_follow_up_supernet(_existing_supernet(level.experiment))
    evaluator = level.evaluator("val", level.config.val_clips)
    return InheritedClipScore(supernet.to(level.experiment.device), evaluator, level.calibration)


def _existing_supernet(experiment: Experiment) -> Path:
    file = video_supernet_file(experiment)
    if not file.exists():
        raise ValueError(f"{file}: no supernet; run `vipnas video train-supernet` first")
    return file


def _search_settings(level: VideoLevel) -> dict[str, Any]:
    supernet = _existing_supernet(level.experiment)
    return {
        **search_settings(level.experiment, level.config.search, supernet),
        "key_frame": content_digest(level.key_frame_file),
        "num_follow_ups": level.config.num_follow_ups,
        "fusions": [str(fusion or "none") for fusion in level.space.fusions],
        "follow_up_space": level.space.image_space.to_plain(),
        "val_clips": level.config.val_clips,
        "calibration_clips": level.config.calibration_clips,
    }


def _write_best(path: Path, best: Trial) -> None:
    assert isinstance(best.arch, VideoArch)
    write_video_arch(path, best.arch, **found_by(best))


def retrain_video(experiment: Experiment, arch_file: Path, name: str = "retrain") -> Path:
    """Take a clip's networks out of the supernet and train them on, along the clip.

    `video/retrain/video.pt` holds them with the key frame's, `metrics.json` their test figures,
    with the settings that they were measured with: with others they are measured anew.
    """
    level = VideoLevel(experiment)
    arch, config = read_video_arch(arch_file), level.config.retrain
    check_arch(level, arch, str(arch_file))
    target = video_weights_file(experiment, name)
    supernet = _existing_supernet(experiment)
    with at_work(experiment, target.parent):
        settings = {
            **level.settings(),
            "video_retrain": to_plain(config),
            "video_arch": to_plain(arch, defaults=False),
            "init_from": content_digest(supernet),
            "calibration_clips": level.config.calibration_clips,
            "calibration_batch_size": level.batch_size,
        }
        if not experiment.folder.is_done(target, settings):
            _retrain(level, arch, target, settings)
        if experiment.processes.is_first:
            _measure(level, target)
    return target


def check_arch(level: VideoLevel, arch: VideoArch, where: str) -> None:
    """Raise ValueError unless a clip's arch is of the level's space and within its budgets."""
    level.space.check_arch(arch, where)
    config = level.config.search
    if config.constraints:
        cost_of, _ = _cost_of(config, level)
        check_budgets(config, cost_of(arch), where)


def _measure(level: VideoLevel, target: Path) -> None:
    """On the test videos, unless it was measured with the same settings before."""
    metrics_file = target.with_name("metrics.json")
    scoring = {**level.experiment.scoring_settings(), "boxes": level.config.boxes}
    if not is_measured(metrics_file, scoring):
        scores, _ = evaluate_video(level.experiment, target, "test")
        plain = {name: to_plain(value) for name, value in scores.items()}
        figures = {**plain, "settings": scoring}
        write_atomically(metrics_file, json.dumps(figures, indent=2) + "\n")


def _retrain(level: VideoLevel, arch: VideoArch, target: Path, settings: dict[str, Any]) -> None:
    experiment, config = level.experiment, level.config.retrain
    supernet = load_follow_up_supernet(_existing_supernet(experiment)).to(experiment.device)
    seed_process(experiment.config.seed)
    network: FollowUpNet | FollowUpNets = supernet
    run = slices_of(supernet, arch)
    if config.weights == "own":
        network = run = extract_video(level.key_frame, supernet, arch).follow_ups
    backward = video_retrain_backward(level.step_of(config.exposure), run)
    is_first = experiment.processes.is_first
    with timed(target.parent, is_first):
        trained = train_clips(level, target.parent, network, config.schedule, backward, settings)
        if not is_first:
            return
        if isinstance(trained, FollowUpNet):
            trained = extract_video(level.key_frame, trained, arch).follow_ups
        assert isinstance(trained, FollowUpNets)
        calibrate_along(trained.eval(), level.calibration, level.batch_size)
        target.with_name("metrics.json").unlink(missing_ok=True)  # of earlier networks
        save_video(target, VideoNet(level.key_frame, trained))
        experiment.folder.mark_done(target, settings)


def evaluate_video(
    experiment: Experiment, weights: Path, split: Split, boxes: Boxes | None = None
) -> tuple[dict[str, Score], list[TrackedPose]]:
    """Run a clip's networks online over the videos of a split: figures by every protocol that the
    labels allow, and what was found."""
    level = VideoLevel(experiment)
    data = level.videos(split)
    found = level.online(load_video(weights), boxes)(data.videos)
    return video_scores(data, found), found


def video_scores(data: PoseTrackData, found: Sequence[TrackedPose]) -> dict[str, Score]:
    """OKS AP, and PoseTrack mAP where the labels allow it."""
    wanted = [name for name in protocols_for(data) if name in ("coco", "posetrack")]
    return score(data, [item.result() for item in found], wanted)
