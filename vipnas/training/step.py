"""Training of the supernet: what a step does with the members that it is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vipnas.arch.image import Arch
from vipnas.config.training import Distillation
from vipnas.data.codecs.heatmap import HeatmapCodec
from vipnas.data.crops.crops import normalise
from vipnas.training.compute import Forward
from vipnas.training.loop import Backward, Batch
from vipnas.training.losses import heatmap_loss, student_loss
from vipnas.training.sampling import SampledSubnet


def supernet_backward(
    forward: Forward,
    members_of: Callable[[int], Sequence[SampledSubnet]],
    codec: HeatmapCodec,
    distillation: Distillation | None = None,
    reduce: Callable[[Tensor], Tensor] = lambda losses: losses,
) -> Backward:
    """The step: the largest learns from labels, the others as `distillation` says. Gradients add
    up.

    In a step without the largest all learn from labels. `reduce` gives the mean of a tensor over
    all processes: where a member is chosen by its loss, all then choose the same.
    """
    distillation = distillation or Distillation()

    def backward(step: int, batch: Batch) -> dict[str, Tensor]:
        images_B3HW, keypoints_BK3 = batch
        targets, weights = codec.encode(keypoints_BK3)
        images = normalise(images_B3HW)
        teacher: Tensor | None = None

        def run(arch: Arch) -> tuple[Tensor, Tensor]:
            heatmaps = forward(images, arch)
            if teacher is None:
                return heatmap_loss(heatmaps, targets, weights), heatmaps
            return student_loss(distillation, step, heatmaps, teacher, targets, weights), heatmaps

        shown: dict[str, list[Tensor]] = {}
        for member in members_of(step):
            loss, heatmaps = run(choose(member, lambda arch: run(arch)[0], reduce))
            loss.backward()
            if member.kind == "largest":
                teacher = heatmaps.detach()
            shown.setdefault(member.kind, []).append(loss.detach())
        return {kind: torch.stack(losses).mean() for kind, losses in shown.items()}

    return backward


@torch.no_grad()
def choose(
    member: SampledSubnet, loss_of: Callable[[Arch], Tensor], reduce: Callable[[Tensor], Tensor]
) -> Arch:
    """The candidate that the member prefers by its loss, which waits for the device; one candidate
    is taken unseen."""
    if len(member.candidates) == 1:
        return member.candidates[0]
    losses = reduce(torch.stack([loss_of(arch) for arch in member.candidates]))
    preferred = losses.argmin() if member.prefer == "lowest_loss" else losses.argmax()
    return member.candidates[int(preferred)]


def retrain_backward(forward: Forward, codec: HeatmapCodec) -> Backward:
    """The step: forward, loss against the labels, backward."""

    def backward(step: int, batch: Batch) -> dict[str, Tensor]:
        images_B3HW, keypoints_BK3 = batch
        targets, weights = codec.encode(keypoints_BK3)
        loss = heatmap_loss(forward(normalise(images_B3HW), None), targets, weights)
        loss.backward()
        return {"labels": loss.detach()}

    return backward
