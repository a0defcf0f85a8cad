"""The training step, for images and for clips.

A level gives a `Task`: how a batch is prepared and how an architecture runs on it. An image is a
clip of one frame.

B batch, F frames of a clip, K keypoints, H W height and width of the heatmaps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from vipnas.arch.clip import VideoArch
from vipnas.arch.image import Arch
from vipnas.config.clip import Exposure
from vipnas.config.training import Distillation
from vipnas.data.codecs.heatmap import HeatmapCodec
from vipnas.data.crops.clip_sizes import ClipSizes
from vipnas.data.crops.crops import normalise
from vipnas.data.crops.loader import Batch
from vipnas.data.crops.resizing import resize_crops, resize_points
from vipnas.models.propagation import Feed, Frame, RunFrame, detached, propagate
from vipnas.training.compute import Forward
from vipnas.training.distributed import ALONE, Processes
from vipnas.training.failure import Backward
from vipnas.training.losses import LabelLoss, heatmap_loss, label_loss_of, student_loss
from vipnas.training.sampling import SampledSubnet
from vipnas.training.teacher import taught_targets

A = TypeVar("A")
Runs = TypeVar("Runs", contravariant=True)


class Prepared(NamedTuple):
    """A batch, ready to run: the frames that are trained, with their targets.

    `targets` and `weights` have an entry for each frame, (B, K, H, W) and (B, K). `before` and
    `feed` are those of `propagate`, `label_loss` is the loss of a frame.
    """

    frames: list[Frame]
    targets: list[Tensor]
    weights: list[Tensor]
    before: Tensor | None = None
    feed: Feed = detached
    label_loss: LabelLoss = heatmap_loss

    def losses(self, heatmaps: Sequence[Tensor]) -> list[Tensor]:
        """Return the loss of each frame against its labels."""
        return list(map(self.label_loss, heatmaps, self.targets, self.weights))

    def names(self) -> list[str]:
        """Return the name of each frame's loss."""
        return [f"frame_{f.distance}" if f.distance else "labels" for f in self.frames]


class Task(Protocol[Runs]):
    """How a level prepares and runs a batch."""

    def prepare(self, step: int, batch: Batch) -> Callable[[Runs | None], Prepared]:
        """Return what gives an architecture its images and targets, prepared once for each size.

        None is the whole network.
        """

    def run_of(self, arch: Runs | None) -> RunFrame:
        """Return the function that runs an architecture; None is the whole network."""


@dataclass(frozen=True)
class ImageTask:
    """Train a network of images.

    Batches are `images_B3HW` (uint8), `keypoints_BK3` and, with a teacher, its joints likewise.
    `teacher_weight` is that of `taught_targets`; 0 ignores the teacher.
    """

    forward: Forward
    codec: HeatmapCodec
    teacher_weight: float = 0.0

    def prepare(self, step: int, batch: Batch) -> Callable[[Arch | None], Prepared]:
        images_B3HW, *joints = batch

        @cache
        def prepared(codec: HeatmapCodec) -> Prepared:
            images, labels, *taught = _resized(self.codec, codec, images_B3HW, *joints)
            if taught and self.teacher_weight > 0:
                targets, weights = taught_targets(codec, labels, taught[0], self.teacher_weight)
            else:
                targets, weights = codec.encode(labels)
            loss = label_loss_of(codec)
            return Prepared([Frame(0, images)], [targets], [weights], label_loss=loss)

        return lambda arch: prepared(self.codec if arch is None else self.codec.at(arch))

    def run_of(self, arch: Arch | None) -> RunFrame:
        return lambda distance, images, before: self.forward(images, arch)


@dataclass(frozen=True)
class ClipTask:
    """Train the networks of follow-up frames; the key frame's network is fixed.

    Batches are `images_BF3HW` (uint8), `keypoints_BFK3` and `warps_BT23`. `follow_ups` run the
    frames after the key frame, in their order, None a frame without a network; of a supernet, all
    are the same. Of several `processes`, each has its share of a joint batch.
    """

    key_frame: Forward
    follow_ups: Sequence[Forward | None]
    codec: HeatmapCodec
    exposure: Exposure
    processes: Processes = ALONE

    def prepare(self, step: int, batch: Batch) -> Callable[[VideoArch | None], Prepared]:
        images_BF3HW, keypoints_BFK3, warps_BT23 = batch
        numbers, feed_of = range(images_BF3HW.shape[1]), self._feed_of(keypoints_BFK3, step)

        @cache
        def sized(number: int, codec: HeatmapCodec) -> tuple[Tensor, Tensor, Tensor]:
            crops = images_BF3HW[:, number], keypoints_BFK3[:, number]
            images, joints = _resized(self.codec, codec, *crops)
            return images, *codec.encode(joints)

        @cache
        @torch.no_grad()
        def first(codec: HeatmapCodec) -> Tensor:
            return self.key_frame(sized(0, codec)[0], None)

        def prepared(arch: VideoArch | None) -> Prepared:
            sizes = ClipSizes(self.codec, arch)
            found = [sized(n, sizes.codec_at(n)) for n in numbers]
            frames = [sizes.frame(n, found[n][0], warps_BT23[:, n - 1]) for n in numbers[1:]]
            targets, weights = ([one[part] for one in found[1:]] for part in (1, 2))
            return Prepared(frames, targets, weights, first(sizes.codec_at(0)), feed_of(sizes))

        return prepared

    def run_of(self, arch: VideoArch | None) -> RunFrame:
        def run(distance: int, images_B3HW: Tensor, before_BKHW: Tensor | None) -> Tensor:
            forward = self.follow_ups[distance - 1]
            follow_up = None if arch is None else arch.follow_ups[distance - 1]
            if forward is None or (arch is not None and follow_up is None):
                assert before_BKHW is not None
                return before_BKHW
            return forward(images_B3HW, before_BKHW, follow_up)

        return run

    def _feed_of(self, keypoints_BFK3: Tensor, step: int) -> Callable[[ClipSizes], Feed]:
        """Return the network's own heatmaps or, in the first steps, those of the labels."""
        if step >= self.exposure.teacher_forcing_steps:
            own: Feed = detached if self.exposure.detach else lambda distance, heatmaps: heatmaps
            return lambda sizes: own
        generator = torch.Generator().manual_seed(step)
        # Of the joint batch, so that N processes train as one.
        joint_size = len(keypoints_BFK3) * self.processes.number
        noise = torch.randn(joint_size, *keypoints_BFK3.shape[1:-1], 2, generator=generator)
        noise = noise[self.processes.share(joint_size)]
        moved = keypoints_BFK3.clone()
        moved[..., :2] += self.exposure.teacher_forcing_noise_px * noise.to(moved)

        def forced(sizes: ClipSizes, distance: int, heatmaps_BKHW: Tensor) -> Tensor:
            return sizes.encode(distance - 1, moved[:, distance - 1])[0]

        return lambda sizes: partial(forced, sizes)


def _resized(
    crops: HeatmapCodec, codec: HeatmapCodec, images_B3HW: Tensor, *joints_BK3: Tensor
) -> list[Tensor]:
    """Return crops, normalised, and their joints at the size of another codec."""
    points = [resize_points(one, crops.input_hw, codec.input_hw) for one in joints_BK3]
    return [normalise(resize_crops(images_B3HW, codec.input_hw)), *points]


def supernet_backward(
    task: Task[A],
    subnets_of: Callable[[int], Sequence[SampledSubnet[A]]],
    distillation: Distillation | None = None,
    reduce: Callable[[Tensor], Tensor] = lambda losses: losses,
) -> Backward:
    """Return the step of a supernet; the gradients of its subnets add up.

    The largest learns from labels, the others as `distillation` says. In a step without the
    largest, all learn from labels. `reduce` gives the mean of a tensor over all processes: where a
    subnet is chosen by its loss, all then choose the same.
    """
    distillation = distillation or Distillation()

    def backward(step: int, batch: Batch) -> dict[str, Tensor]:
        prepare = task.prepare(step, batch)
        teacher: list[Tensor] | None = None

        def run(arch: A) -> tuple[Tensor, list[Tensor]]:
            prepared = prepare(arch)
            heatmaps = _heatmaps(task, prepared, arch)
            if teacher is None:
                losses = prepared.losses(heatmaps)
            else:
                targets = zip(heatmaps, teacher, prepared.targets, prepared.weights, strict=True)
                loss_of = prepared.label_loss
                losses = [student_loss(distillation, step, *frame, loss_of) for frame in targets]
            return torch.stack(losses).mean(), heatmaps

        reported: dict[str, list[Tensor]] = {}
        for subnet in subnets_of(step):
            loss, heatmaps = run(choose(subnet, lambda arch: run(arch)[0], reduce))
            _backward(loss)
            if subnet.kind == "largest":
                teacher = [frame.detach() for frame in heatmaps]
            reported.setdefault(subnet.kind, []).append(loss.detach())
        return {kind: torch.stack(losses).mean() for kind, losses in reported.items()}

    return backward


def network_backward(task: Task[A], arch: A | None = None) -> Backward:
    """Return the step of a single network: forward, losses against the labels, backward.

    `arch` trains the weights of a supernet that this architecture shares; None, the whole network.
    """

    def backward(step: int, batch: Batch) -> dict[str, Tensor]:
        prepared = task.prepare(step, batch)(arch)
        losses = torch.stack(prepared.losses(_heatmaps(task, prepared, arch)))
        _backward(losses.mean())
        return dict(zip(prepared.names(), losses.detach().unbind(), strict=True))

    return backward


def _backward(loss: Tensor) -> None:
    """Add the gradients of a loss; a clip whose follow-up frames run no network has none."""
    if loss.requires_grad:
        loss.backward()


def _heatmaps(task: Task[A], prepared: Prepared, arch: A | None) -> list[Tensor]:
    run = task.run_of(arch)
    return list(propagate(run, prepared.frames, prepared.before, prepared.feed))


@torch.no_grad()
def choose(
    subnet: SampledSubnet[A], loss_of: Callable[[A], Tensor], reduce: Callable[[Tensor], Tensor]
) -> A:
    """Return the candidate that the subnet prefers by its loss, which waits for the device.

    A single candidate is chosen without its loss.
    """
    if len(subnet.candidates) == 1:
        return subnet.candidates[0]
    losses = reduce(torch.stack([loss_of(arch) for arch in subnet.candidates]))
    preferred = losses.argmin() if subnet.prefer == "lowest_loss" else losses.argmax()
    return subnet.candidates[int(preferred)]
