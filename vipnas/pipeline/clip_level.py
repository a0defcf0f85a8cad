"""The level of clips: light networks for the frames after a key frame.

The network of the key frame is that of the level of images.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from torch import nn

from vipnas.arch.clip import VideoArch
from vipnas.config.clip import Exposure, VideoConfig
from vipnas.data.codecs.heatmap import HeatmapCodec
from vipnas.data.crops.clips import TrainingClips
from vipnas.data.formats.posetrack import PoseTrackData
from vipnas.evaluation.clips import (
    ClipEvaluator,
    InheritedClipScore,
    KeyedClips,
    calibrate_along,
    with_key_frames,
)
from vipnas.evaluation.online import OnlineLoop
from vipnas.evaluation.subnets import take_clip
from vipnas.files import to_plain
from vipnas.models.clipnet import ClipNetworks, FollowUpNet, FollowUpNets, VideoNet, build_video_net
from vipnas.models.counting import mean_cost
from vipnas.models.file import write_key_frames
from vipnas.models.posenet import PoseNet
from vipnas.pipeline.details import draw_clips
from vipnas.pipeline.experiment import Split
from vipnas.pipeline.image_level import ImageLevel, cost_of_images
from vipnas.pipeline.initial import start_from_images
from vipnas.pipeline.level import Level, existing, existing_supernet, network_file, supernet_file
from vipnas.pipeline.models import open_clip, open_clip_supernet, open_network, open_supernet
from vipnas.pipeline.run_folder import RunFolder
from vipnas.pipeline.work import needed
from vipnas.quantities import Cost
from vipnas.search.constraints import CostOf
from vipnas.settings import content_digest
from vipnas.space.clip import VideoSpace
from vipnas.training.compute import make_forward
from vipnas.training.step import ClipTask


@dataclass(frozen=True)
class ClipLevel(Level[VideoArch]):
    """An experiment's level of clips: its parts, each made when first needed.

    The key frame's network is by default that of the level of images, retrained. Crops have the
    largest size of its clips, those of `only` if it is given.
    """

    given_key_frame: PoseNet | None = None
    only: VideoArch | None = None
    name = "clip"
    commands = "vipnas video"
    sections = "video."
    arch_type = VideoArch
    starts_from_supernet = True

    def at(self, arch: VideoArch) -> ClipLevel:
        return replace(self, only=arch)

    @cached_property
    def config(self) -> VideoConfig:
        return needed(self.experiment, self.experiment.config.video, "video")

    @property
    def folder(self) -> RunFolder:
        return self.experiment.folder.clips

    @property
    def key_frame_file(self) -> Path:
        file = network_file(ImageLevel(replace(self.experiment, search_name=None)))
        return existing(file, "the network of the key frames", "run `vipnas retrain` first")

    @cached_property
    def key_frame(self) -> PoseNet:
        if self.given_key_frame is not None:
            return self.given_key_frame.to(self.experiment.device)
        return open_network(self.experiment, self.key_frame_file)

    @cached_property
    def space(self) -> VideoSpace:
        images = self.experiment.datasets.follow_up_space(self.config)
        fusion, num_follow_ups = self.config.fusion, self.config.num_follow_ups
        return VideoSpace(self.key_frame.arch, images, fusion.options, num_follow_ups, fusion.warp)

    @property
    def codec(self) -> HeatmapCodec:
        """For the size of the crops."""
        return self.experiment.codec.at((self.only or self.space.max_arch()).largest)

    @property
    def network_step_is_static(self) -> bool:
        return self.config.retrain.exposure.teacher_forcing_steps == 0

    @property
    def sampler_seed(self) -> str:
        return f"clip-{self.experiment.config.seed}"

    def count_cost(self, arch: VideoArch) -> Cost:
        return mean_cost(arch)

    def cost_of(self) -> tuple[CostOf[VideoArch], dict[str, str | None]]:
        image_cost, costs = cost_of_images(self.search_config, self.space.image_space)
        return partial(mean_cost, image_cost=image_cost), costs

    def videos(self, split: Split | None) -> PoseTrackData:
        """Return the videos of a split; None is for training."""
        return self.experiment.datasets.videos(split)

    @cached_property
    def training_data(self) -> TrainingClips:
        return self.experiment.datasets.training_clips(self.config, self.codec)

    def _keyed_clips(self, split: Split | None, at_most: int) -> KeyedClips:
        clips = self.experiment.datasets.clips(self.config, self.codec, split, at_most)
        return with_key_frames(clips, self.key_frame, self.batch_size)

    @cached_property
    def calibration(self) -> KeyedClips:
        return self._keyed_clips(None, self.config.calibration_clips)

    def scorer(self, supernet: nn.Module, num_persons: int | None = None) -> InheritedClipScore:
        assert isinstance(supernet, (FollowUpNet, FollowUpNets))
        evaluator = ClipEvaluator(
            self._keyed_clips("val", self._val_clips(num_persons)),
            self.videos("val").ground_truth,
            self.experiment.skeleton,
            self.codec,
            self.batch_size,
        )
        margin = self.early_stop_margin(num_persons)
        return InheritedClipScore(supernet, self.space, evaluator, self.calibration, margin)

    def crops_of_score(self, num_persons: int | None) -> int:
        return self._val_clips(num_persons) + self.config.calibration_clips

    def _val_clips(self, num_persons: int | None) -> int:
        return min(self.config.val_clips, num_persons or self.config.val_clips)

    def supernet(self, directory: Path) -> FollowUpNet:
        """Build the supernet of the follow-up frames; see `start_from_images`."""
        space, joints = self.space.image_space, self.experiment.skeleton.joints
        supernet = FollowUpNet(space.max_arch(), self.space.fusions).to(self.experiment.device)
        if (images_file := self._starts_from) is not None:
            images = open_supernet(self.experiment, images_file)
            start_from_images(supernet.posenet, images, self.key_frame, space, joints)
        return supernet

    @property
    def _starts_from(self) -> Path | None:
        images = ImageLevel(self.experiment)
        if self.config.supernet.init_from == "supernet":
            return existing_supernet(images)
        ours, own = self.space.image_space.max_arch(), self.experiment.space.max_arch()
        same = replace(ours, input_hw=own.input_hw) == own  # weights have no input size
        file = supernet_file(images)
        return file if same and file.exists() else None

    def blank(self, arch: VideoArch | None) -> FollowUpNet | FollowUpNets:
        if arch is not None and self.config.retrain.weights == "own":
            return build_video_net(arch, initialise=False).follow_ups
        return FollowUpNet(self.space.image_space.max_arch(), self.space.fusions, initialise=False)

    def supernet_task(self, supernet: nn.Module) -> ClipTask:
        return self._task(supernet, self.config.supernet.exposure)

    def network(
        self, arch: VideoArch, init_from: Path | None, directory: Path
    ) -> FollowUpNet | FollowUpNets:
        """Return the networks of a clip: with weights of their own, or the supernet to share."""
        assert init_from is not None
        supernet = self.load_supernet(init_from)
        if self.config.retrain.weights == "shared":
            return supernet
        return take_clip(supernet, self.space, arch, None, str(init_from))

    def network_task(self, network: nn.Module, arch: VideoArch) -> tuple[ClipTask, VideoArch]:
        return self._task(network, self.config.retrain.exposure), arch

    def _task(self, network: nn.Module, exposure: Exposure) -> ClipTask:
        assert isinstance(network, (FollowUpNet, FollowUpNets))
        compute, processes = self.experiment.compute, self.experiment.processes
        networks = network.of_frames(self.config.num_follow_ups)
        forwards = {
            one: one and make_forward(one, compute, processes) for one in dict.fromkeys(networks)
        }
        return ClipTask(
            make_forward(self.key_frame, compute),
            [forwards[one] for one in networks],
            self.codec,
            exposure,
            processes,
        )

    def settings(self) -> dict[str, Any]:
        sizes, images = self.space.image_space.inputs_hw, self.experiment.space.inputs_hw
        return {
            **self.experiment.training_settings(),
            "key_frame": content_digest(self.key_frame_file),
            "num_follow_ups": self.config.num_follow_ups,
            "clip_augmentation": to_plain(self.config.augmentation),
            "training_clips": len(self.training_data),
            **({} if sizes == images else {"input_hw": to_plain(sizes)}),
        }

    def supernet_settings(self) -> dict[str, Any]:
        starts_from, own_space = self._starts_from, self.config.space is not None
        return {
            "follow_up_space": self.space.image_space.to_plain() if own_space else None,
            "fusions": self.space.fusion_names,
            "video_supernet": to_plain(self.config.supernet),
            "init_from": content_digest(starts_from) if starts_from else None,
        }

    def search_settings(self) -> dict[str, Any]:
        return {
            "key_frame": content_digest(self.key_frame_file),
            "num_follow_ups": self.config.num_follow_ups,
            "fusions": self.space.fusion_names,
            "follow_up_space": self.space.image_space.to_plain(),
            "val_clips": self.config.val_clips,
            "calibration_clips": self.config.calibration_clips,
        }

    def retrain_settings(self, arch: VideoArch, init_from: Path | None) -> dict[str, Any]:
        assert init_from is not None
        return {
            "video_retrain": to_plain(self.config.retrain),
            "video_arch": to_plain(arch, defaults=False),
            "init_from": content_digest(init_from),
            "calibration_clips": self.config.calibration_clips,
            "calibration_batch_size": self.batch_size,
        }

    def scoring_settings(self) -> dict[str, Any]:
        by_need = self.config.key_frames
        rule = {} if by_need is None else {"key_frames": to_plain(by_need)}
        return {"boxes": self.config.boxes, **rule}

    def loop(self, network: ClipNetworks) -> OnlineLoop:
        """Return what runs networks on whole videos, as at run time."""
        experiment = self.experiment
        return OnlineLoop(
            network.to(experiment.device),
            experiment.skeleton,
            experiment.codec,
            self.config.boxes,
            self.batch_size,
            experiment.config.box,
        )

    def loop_of(self, path: Path) -> OnlineLoop:
        """Return `loop` for a clip, with its key frames; also for the folder of an exported one."""
        network, header = open_clip(self.experiment, path)
        return replace(self.loop(network), rule=header.key_frames, place=str(path))

    def choose_key_frames(self, path: Path, other: Path) -> None:
        """Choose when key frames come, as the experiment says; write `other` where that differs.

        The budget is the mean cost of the fixed clock, which stays if no threshold keeps it.
        """
        rule, settings = None, self.config.key_frames
        if settings is not None:
            loop, videos = self.loop_of(path), self.videos("val").videos
            rule = loop.rule_within(mean_cost(loop.network.arch).macs, settings, videos)
            if rule is None:
                print("retrain: no threshold keeps the mean cost of the clock, which stays")
        write_key_frames(path, rule, other)

    def replay_state(self) -> dict[str, Any]:
        key_frame = self.key_frame
        return {"key_frame_arch": key_frame.arch.to_json(), "key_frame": key_frame.state_dict()}

    def load_supernet(self, path: Path) -> FollowUpNet:
        return open_clip_supernet(self.experiment, path, self.space)

    def stand_alone(self, network: nn.Module, arch: VideoArch) -> VideoNet:
        assert isinstance(network, (FollowUpNet, FollowUpNets))
        follow_ups = take_clip(network, self.space, arch, None, "the networks of a clip")
        return VideoNet(self.key_frame, follow_ups)

    def calibrate(self, model: nn.Module) -> str:
        assert isinstance(model, VideoNet)
        calibrate_along(model.follow_ups.eval(), self.calibration, self.batch_size)
        return f"training clips of {self.experiment.name}"

    def test_metrics(self, path: Path) -> dict[str, Any]:
        data = self.videos("test")
        scores, found = self.loop_of(path).scores(data)
        metrics = {name: to_plain(score) for name, score in scores.items()}
        draw_clips(path.parent, data, found, metrics.get("posetrack", {}).get("by_joint", {}))
        return metrics
