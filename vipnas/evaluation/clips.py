"""Calibrate and score the networks of a clip on fixed clips.

A search scores them by the mean object keypoint similarity over all frames; COCO metrics are
available as well. The crops follow the annotated boxes, so only the heatmaps depend on the
networks. All clips therefore run in one batch, and the heatmaps of the key frames are computed
once.

N clips, F frames of a clip, T = F - 1 follow-up frames, K keypoints, H W the heatmaps' size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vipnas.arch.clip import VideoArch
from vipnas.arch.image import Arch
from vipnas.data.codecs.heatmap import HeatmapCodec
from vipnas.data.crops.clip_sizes import ClipSizes
from vipnas.data.crops.clips import FixedClips
from vipnas.data.crops.crops import normalise
from vipnas.data.formats.results import keypoint_results
from vipnas.data.formats.skeletons import Skeleton
from vipnas.evaluation.coco_ap import coco_metrics
from vipnas.evaluation.evaluator import inputs_of, measure_statistics, middle_batch
from vipnas.evaluation.metrics import Metrics
from vipnas.evaluation.oks import mean_similarity
from vipnas.evaluation.scoring import Inherited
from vipnas.evaluation.subnets import take_clip
from vipnas.models.clipnet import FollowUpNet, FollowUpNets
from vipnas.models.fold import fold_batch_norm
from vipnas.models.posenet import PoseNet
from vipnas.models.propagation import Frame, propagate
from vipnas.space.clip import VideoSpace

Results = list[dict[str, Any]]
FloatArray = NDArray[np.float64]
Scores = NDArray[np.float32]


@dataclass(frozen=True)
class KeyedClips:
    """Fixed clips, and the key frame network's heatmaps (N, K, H, W) of their first frames."""

    clips: FixedClips
    heatmaps_NKHW: Tensor
    key_frame: Arch

    def sizes(self, networks: FollowUpNets) -> ClipSizes:
        """Return the sizes of the frames for some follow-up networks."""
        return ClipSizes(self.clips.codec, VideoArch(self.key_frame, networks.archs))

    def frames(
        self, networks: FollowUpNets, rows: Tensor | slice, device: torch.device
    ) -> Iterator[Frame]:
        """Yield the follow-up frames of some clips at the sizes of networks, with uint8 images."""
        sizes = self.sizes(networks)
        for distance, crops in enumerate(self.clips.frames[1:], start=1):
            warps = self.clips.warps_NT23[rows, distance - 1].to(device)
            images = sizes.images(distance, crops.images_B3HW[rows].to(device))
            yield sizes.frame(distance, images, warps)

    def of(self, rows: slice) -> KeyedClips:
        """Return some of the clips."""
        return replace(self, clips=self.clips.of(rows), heatmaps_NKHW=self.heatmaps_NKHW[rows])


def normalised(frame: Frame) -> Frame:
    """Return a frame of uint8 images with normalised ones."""
    return frame._replace(images_B3HW=normalise(frame.images_B3HW))


@torch.no_grad()
def with_key_frames(clips: FixedClips, key_frame: PoseNet, batch_size: int) -> KeyedClips:
    """Run the key frame's network, which is in evaluation mode, on the first frame of each clip."""
    images_N3HW, input_hw = clips.frames[0].images_B3HW, key_frame.arch.input_hw
    found = [
        key_frame(images) for images in inputs_of(key_frame, images_N3HW, input_hw, batch_size)
    ]
    return KeyedClips(clips, torch.cat(found).cpu(), key_frame.arch)


@torch.no_grad()
def calibrate_along(networks: FollowUpNets, keyed: KeyedClips, batch_size: int) -> None:
    """Measure the batch-norm statistics of each frame's network, one frame after another.

    Each network gets the heatmaps of the calibrated networks before it.
    """
    device = next(networks.parameters(), torch.empty(0)).device

    def calibrate(distance: int, images_N3HW: Tensor, before_NKHW: Tensor | None) -> Tensor:
        assert before_NKHW is not None
        network = networks[distance - 1]
        if network is None:
            return before_NKHW
        images = map(normalise, images_N3HW.split(batch_size))
        inputs = list(zip(images, before_NKHW.split(batch_size), strict=True))
        measure_statistics(network, inputs)
        return torch.cat([network.eval()(*batch) for batch in inputs])

    frames = keyed.frames(networks, slice(None), device)
    for _ in propagate(calibrate, frames, keyed.heatmaps_NKHW.to(device)):
        pass


@dataclass(frozen=True)
class ClipEvaluator:
    """Score the networks of follow-up frames on fixed clips; the key frames count as well.

    Attributes:
        keyed: The clips, with the heatmaps of their key frames.
        ground_truth: The COCO dict of the clips' persons. Only these persons count.
        skeleton: The joints.
        codec: Decodes the heatmaps.
        batch_size: How many clips run at a time.
    """

    keyed: KeyedClips
    ground_truth: dict[str, Any]
    skeleton: Skeleton
    codec: HeatmapCodec
    batch_size: int = 32

    def at(self, arch: VideoArch) -> ClipEvaluator:
        """Return an evaluator for networks of this architecture's sizes."""
        return self

    def __call__(self, networks: FollowUpNets) -> Metrics:
        """Return the ten COCO metrics over all frames of all clips.

        Raises:
            FloatingPointError: Heatmaps are not finite.
        """
        return self.metrics_of(*self.predict(networks))

    def metrics_of(self, xy_NFK2: FloatArray, scores_NFK: Scores) -> Metrics:
        """Return the metrics of predictions for all frames of all clips."""
        counted = {
            person.annotation_id for clip in self.keyed.clips.clips for person in clip.people
        }
        annotations = [e for e in self.ground_truth["annotations"] if e["id"] in counted]
        truth = {**self.ground_truth, "annotations": annotations}
        return coco_metrics(truth, self.results_of(xy_NFK2, scores_NFK), self.skeleton)

    def score(self, xy_NFK2: FloatArray, scores_NFK: Scores) -> float:
        """Return the mean object keypoint similarity (0..1) over all frames.

        It is the score of a search, as for images.
        """
        persons = [p for crops in self.keyed.clips.frames for p in crops.persons]
        truth_MK3 = np.array([person.keypoints_K3 for person in persons])
        areas_M = np.array([person.area for person in persons])
        xy_MK2 = xy_NFK2.swapaxes(0, 1).reshape(-1, *xy_NFK2.shape[2:])
        return mean_similarity(xy_MK2, truth_MK3, areas_M, self.skeleton.sigmas)

    def results_of(self, xy_NFK2: FloatArray, scores_NFK: Scores) -> Results:
        """Return predictions in the COCO results format."""
        results: Results = []
        for number, crops in enumerate(self.keyed.clips.frames):
            results += keypoint_results(crops.persons, xy_NFK2[:, number], scores_NFK[:, number])
        return results

    def results(self, networks: FollowUpNets) -> Results:
        """Return the predictions for all frames in the COCO results format."""
        return self.results_of(*self.predict(networks))

    @torch.no_grad()
    def predict(self, networks: FollowUpNets) -> tuple[FloatArray, Scores]:
        """Return joints (N, F, K, 2) in pixels of each frame's image, and scores (N, F, K)."""
        device = next(networks.parameters(), torch.empty(0)).device
        networks.eval()
        decoded, sizes = [], replace(self.keyed.sizes(networks), codec=self.codec)
        for rows in torch.arange(len(self.keyed.clips)).split(self.batch_size):
            first = self.keyed.heatmaps_NKHW[rows].to(device)
            frames = map(normalised, self.keyed.frames(networks, rows, device))
            along = [first, *propagate(networks, frames, first)]
            if not all(torch.isfinite(heatmaps).all() for heatmaps in along):
                raise FloatingPointError("the networks' heatmaps are not finite")
            found = [sizes.decode(*frame) for frame in enumerate(along)]
            decoded.append([torch.stack(part, dim=1).cpu() for part in zip(*found, strict=True)])
        xy_NFK2, scores_NFK = (torch.cat(parts) for parts in zip(*decoded, strict=True))
        in_image = [
            crops.to_image(xy_NFK2[:, number])
            for number, crops in enumerate(self.keyed.clips.frames)
        ]
        return np.stack(in_image, axis=1), scores_NFK.numpy()

    def halves(self) -> tuple[ClipEvaluator, ClipEvaluator] | None:
        """Return evaluators of the first half of the batches and of the rest; None for one."""
        middle = middle_batch(len(self.keyed.clips), self.batch_size)
        if middle == 0:
            return None
        first, rest = (
            replace(self, keyed=self.keyed.of(rows))
            for rows in (slice(middle), slice(middle, None))
        )
        return first, rest


@dataclass(frozen=True)
class InheritedClipScore(Inherited[VideoArch]):
    """The quality of a clip's architecture with the supernet's weights.

    It is the mean object keypoint similarity over all frames, as for images.
    """

    supernet: FollowUpNet | FollowUpNets
    space: VideoSpace
    evaluator: ClipEvaluator
    calibration: KeyedClips
    early_stop_margin: float = 0.0

    def to(self, device: torch.device) -> InheritedClipScore:
        """Move the weights to a device, to which crops go batch by batch; in place."""
        self.supernet.to(device)
        return self

    def of(self, supernet: nn.Module) -> InheritedClipScore:
        assert isinstance(supernet, (FollowUpNet, FollowUpNets))
        return replace(self, supernet=supernet)

    @torch.no_grad()
    def seen(self, network: nn.Module, count: int) -> tuple[Tensor, Tensor]:
        """Return the crops of the last frame of the first clips, and their heatmaps."""
        assert isinstance(network, FollowUpNets)
        keyed = self.evaluator.keyed.of(slice(count))
        device = next(network.parameters(), torch.empty(0)).device
        frames = map(normalised, keyed.frames(network, slice(None), device))
        first = keyed.heatmaps_NKHW.to(device)
        return keyed.clips.frames[-1].images_B3HW, [first, *propagate(network, frames, first)][-1]

    def network(self, arch: VideoArch) -> FollowUpNets:
        """Return the follow-up networks, calibrated, for inference only: batch norm is folded."""
        calibrate = partial(
            calibrate_along, keyed=self.calibration, batch_size=self.evaluator.batch_size
        )
        networks = take_clip(self.supernet, self.space, arch, calibrate, "the supernet of clips")
        fold_batch_norm(networks)
        return networks
