"""The quality of a clip's networks on fixed clips: calibration along the clip, AP over all frames.

The crops follow the annotated boxes, so that nothing but the heatmaps depends on the networks: all
clips run side by side, and the heatmaps of the key frames are made once.

N clips, F frames of a clip, T = F - 1 follow-up frames, K keypoints, H W the heatmaps' size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vipnas.arch.clip import VideoArch
from vipnas.data.codecs.heatmap import HeatmapCodec
from vipnas.data.crops.clips import FixedClips
from vipnas.data.crops.crops import normalise
from vipnas.data.formats.results import keypoint_results
from vipnas.data.formats.skeletons import Skeleton
from vipnas.evaluation.coco_ap import coco_metrics
from vipnas.evaluation.evaluator import measure_statistics
from vipnas.evaluation.metrics import Metrics
from vipnas.models.clipnet import (
    FollowUpNet,
    FollowUpNets,
    extract_follow_up,
    propagate,
    warp_heatmaps,
)
from vipnas.models.fold import fold_batch_norm
from vipnas.models.posenet import PoseNet

Results = list[dict[str, Any]]


@dataclass(frozen=True)
class KeyedClips:
    """Fixed clips, and what the key frame's network makes of their first frames (N, K, H, W)."""

    clips: FixedClips
    heatmaps_NKHW: Tensor

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, list[Tensor], Tensor]]:
        """Key frames' heatmaps, uint8 images of each follow-up frame and warps, `batch_size` clips
        at a time."""
        for rows in torch.arange(len(self.clips)).split(batch_size):
            images = [crops.images_B3HW[rows] for crops in self.clips.frames[1:]]
            yield self.heatmaps_NKHW[rows], images, self.clips.warps_NT23[rows]


@torch.no_grad()
def with_key_frames(clips: FixedClips, key_frame: PoseNet, batch_size: int) -> KeyedClips:
    """Run the key frame's network, which is in evaluation mode, on the first frame of each clip."""
    device = next(key_frame.parameters()).device
    found = [
        key_frame(normalise(images.to(device)))
        for images in clips.frames[0].images_B3HW.split(batch_size)
    ]
    return KeyedClips(clips, torch.cat(found).cpu())


@torch.no_grad()
def calibrate_along(networks: FollowUpNets, keyed: KeyedClips, batch_size: int) -> None:
    """Measure the batch-norm statistics of each frame's network, one frame after another.

    Each meets the heatmaps of the networks before it, which are calibrated by then.
    """
    device = next(networks.parameters()).device
    before = list(keyed.heatmaps_NKHW.split(batch_size))
    for number in range(len(networks.archs)):
        inputs = [
            (
                normalise(images[number].to(device)),
                warp_heatmaps(heatmaps.to(device), warps[:, number].to(device)),
            )
            for heatmaps, (_, images, warps) in zip(before, keyed.batches(batch_size), strict=True)
        ]
        network = networks[number]
        measure_statistics(network, inputs)
        before = [network.eval()(*batch).cpu() for batch in inputs]


@dataclass(frozen=True)
class ClipEvaluator:
    """Scores the networks of follow-up frames on fixed clips; the key frames' count as well.

    `ground_truth` is the COCO dict that the clips' people are of; of it only they count.
    """

    keyed: KeyedClips
    ground_truth: dict[str, Any]
    skeleton: Skeleton
    codec: HeatmapCodec
    batch_size: int = 32

    def __call__(self, networks: FollowUpNets) -> Metrics:
        """The ten COCO figures over all frames of all clips.

        Raises FloatingPointError if heatmaps are not finite.
        """
        counted = {
            person.annotation_id for clip in self.keyed.clips.clips for person in clip.people
        }
        annotations = [e for e in self.ground_truth["annotations"] if e["id"] in counted]
        truth = {**self.ground_truth, "annotations": annotations}
        return coco_metrics(truth, self.results(networks), self.skeleton)

    def results(self, networks: FollowUpNets) -> Results:
        """What the networks find in all frames, in COCO results form."""
        xy_NFK2, scores_NFK = self._predict(networks)
        results: Results = []
        for number, crops in enumerate(self.keyed.clips.frames):
            xy_px = crops.to_image(xy_NFK2[:, number])
            results += keypoint_results(crops.persons, xy_px, scores_NFK[:, number].numpy())
        return results

    @torch.no_grad()
    def _predict(self, networks: FollowUpNets) -> tuple[Tensor, Tensor]:
        """Joints (N, F, K, 2) in input pixels of each frame's crop, and their scores (N, F, K)."""
        device = next(networks.parameters(), torch.empty(0)).device
        decoded = []
        for first, images, warps in self.keyed.batches(self.batch_size):
            first = first.to(device)
            following = (normalise(frame.to(device)) for frame in images)
            frames = [first, *propagate(networks.eval(), first, following, warps.to(device))]
            if not all(torch.isfinite(heatmaps).all() for heatmaps in frames):
                raise FloatingPointError("the networks' heatmaps are not finite")
            found = [self.codec.decode(heatmaps) for heatmaps in frames]
            decoded.append([torch.stack(part, dim=1).cpu() for part in zip(*found, strict=True)])
        xy, scores = zip(*decoded, strict=True)
        return torch.cat(xy), torch.cat(scores)


@dataclass(frozen=True)
class InheritedClipScore:
    """The quality of a clip's arch with the supernet's weights: extract, calibrate, evaluate."""

    supernet: FollowUpNet
    evaluator: ClipEvaluator
    calibration: KeyedClips

    def to(self, device: torch.device) -> InheritedClipScore:
        """The same with the weights on a device, to which crops go batch by batch."""
        self.supernet.to(device)
        return self

    def networks(self, arch: VideoArch) -> FollowUpNets:
        """The follow-up networks, calibrated, to be run only: batch norm is folded."""
        members = [extract_follow_up(self.supernet, member) for member in arch.follow_ups]
        networks = FollowUpNets(members).eval()
        calibrate_along(networks, self.calibration, self.evaluator.batch_size)
        fold_batch_norm(networks)
        return networks

    def metrics(self, arch: VideoArch) -> Metrics:
        return self.evaluator(self.networks(arch))

    def __call__(self, arch: VideoArch) -> float:
        """AP in 0..1 over key frames and follow-up frames."""
        return self.metrics(arch).ap
