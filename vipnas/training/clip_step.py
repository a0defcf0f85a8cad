"""Training of the follow-up networks of clips; the key frame's network is given and stays as it is.

B batch, F frames of a clip, T = F - 1 follow-up frames, K keypoints.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from vipnas.arch.clip import FollowUp, VideoArch
from vipnas.config.clip import ClipSampling, Exposure
from vipnas.data.codecs.heatmap import HeatmapCodec
from vipnas.data.crops.crops import normalise
from vipnas.models.clipnet import FollowUpNet, RunFollowUp, propagate, warp_heatmaps
from vipnas.models.posenet import PoseNet
from vipnas.space.clip import VideoSpace
from vipnas.training.loop import Backward, Batch
from vipnas.training.losses import heatmap_loss


def clip_archs_of_step(
    space: VideoSpace, seed: int, sampling: ClipSampling, step: int
) -> dict[str, list[VideoArch]]:
    """The clip archs of a step by their kind; a pure function of (seed, step)."""
    rng = random.Random(f"clip-{seed}-{step}")
    drawn = [space.sample(rng) for _ in range(sampling.num_random)]
    if sampling.strategy == "uniform":
        return {"random": drawn}
    ends = {
        "largest": [_with_fusions_of(space.max_arch(), space.sample(rng))],
        "smallest": [_with_fusions_of(space.min_arch(), space.sample(rng))],
    }
    return {**ends, "random": drawn} if drawn else ends


def _with_fusions_of(arch: VideoArch, other: VideoArch) -> VideoArch:
    pairs = zip(arch.follow_ups, other.follow_ups, strict=True)
    return replace(
        arch, follow_ups=tuple(FollowUp(mine.arch, theirs.fusion) for mine, theirs in pairs)
    )


@dataclass(frozen=True)
class ClipStep:
    """What the steps of both trainings share: key frames, targets, losses along the clip."""

    key_frame: PoseNet
    codec: HeatmapCodec
    exposure: Exposure
    precision: Literal["float32", "bfloat16"] = "float32"

    def losses(self, runs: Sequence[RunFollowUp], batch: Batch, step: int) -> Tensor:
        """Run each over the clips, add up the gradients; losses (runs, T), without gradients.

        The loss of a run is the mean squared error to the labels' heatmaps, averaged over its
        follow-up frames.
        """
        images_BF3HW, keypoints_BFK3, warps_BT23 = batch
        images = normalise(images_BF3HW.flatten(0, 1)).unflatten(0, images_BF3HW.shape[:2])
        targets, weights = self.codec.encode(keypoints_BFK3.flatten(0, 1))
        targets = targets.unflatten(0, images_BF3HW.shape[:2])
        weights = weights.unflatten(0, images_BF3HW.shape[:2])
        with self._autocast(images), torch.no_grad():
            first = self.key_frame(images[:, 0]).float()
        shown = self._labels(keypoints_BFK3, step)
        losses = []
        for run in runs:
            with self._autocast(images):
                heatmaps = list(self._along(run, first, images, warps_BT23, shown))
            frames = [
                heatmap_loss(found.float(), targets[:, number], weights[:, number])
                for number, found in enumerate(heatmaps, start=1)
            ]
            loss_T = torch.stack(frames)
            loss_T.mean().backward()
            losses.append(loss_T.detach())
        return torch.stack(losses)

    def _along(
        self,
        run: RunFollowUp,
        first: Tensor,
        images: Tensor,
        warps_BT23: Tensor,
        shown: Tensor | None,
    ) -> Iterator[Tensor]:
        if shown is None:
            yield from propagate(
                run, first, images[:, 1:].unbind(1), warps_BT23, self.exposure.detach
            )
            return
        for number in range(warps_BT23.shape[1]):
            before = warp_heatmaps(shown[:, number], warps_BT23[:, number])
            yield run(number, images[:, number + 1], before)

    def _labels(self, keypoints_BFK3: Tensor, step: int) -> Tensor | None:
        """Heatmaps (B, F, K, H, W) of the labels with noise, in the first steps."""
        if step >= self.exposure.teacher_forcing_steps:
            return None
        generator = torch.Generator().manual_seed(step)
        noise = torch.randn(*keypoints_BFK3.shape[:-1], 2, generator=generator)
        moved = keypoints_BFK3.clone()
        moved[..., :2] += self.exposure.teacher_forcing_noise_px * noise.to(moved)
        labels: Tensor = self.codec.encode(moved.flatten(0, 1))[0]
        return labels.view(*keypoints_BFK3.shape[:2], *labels.shape[1:])

    def _autocast(self, images: Tensor) -> torch.autocast:
        enabled = self.precision == "bfloat16"
        return torch.autocast(images.device.type, torch.bfloat16, enabled=enabled)


def video_supernet_backward(
    step_of: ClipStep,
    supernet: FollowUpNet,
    archs_of: Callable[[int], Mapping[str, Sequence[VideoArch]]],
) -> Backward:
    """The step of the supernet: every clip arch learns from the labels, at each follow-up frame.
    What it reports is the mean loss of each kind."""

    def backward(step: int, batch: Batch) -> dict[str, Tensor]:
        archs = archs_of(step)
        runs = [slices_of(supernet, arch) for members in archs.values() for arch in members]
        losses = step_of.losses(runs, batch, step).mean(dim=1)
        parts = losses.split([len(members) for members in archs.values()])
        return {kind: part.mean() for kind, part in zip(archs, parts, strict=True)}

    return backward


def video_retrain_backward(step_of: ClipStep, run: RunFollowUp) -> Backward:
    """The step of the found networks, all along the clip; a loss for every distance from the key
    frame."""

    def backward(step: int, batch: Batch) -> dict[str, Tensor]:
        (losses_T,) = step_of.losses([run], batch, step)
        return {f"frame_{number}": loss for number, loss in enumerate(losses_T, start=1)}

    return backward


def slices_of(supernet: FollowUpNet, arch: VideoArch) -> RunFollowUp:
    """Run the members of a clip on the supernet's weights."""

    def run(number: int, images_B3HW: Tensor, before_BKHW: Tensor) -> Tensor:
        heatmaps: Tensor = supernet(images_B3HW, before_BKHW, arch.follow_ups[number])
        return heatmaps

    return run
