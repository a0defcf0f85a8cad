"""Calibrate the batch norm of a network, predict with a flip test, and score the predictions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vipnas.arch.image import Arch
from vipnas.data.codecs.heatmap import HeatmapCodec
from vipnas.data.crops.crops import Crops, normalise
from vipnas.data.crops.resizing import SizeHW, resize_crops, resize_points
from vipnas.data.formats.results import keypoint_results
from vipnas.data.formats.skeletons import Skeleton
from vipnas.evaluation.coco_ap import coco_metrics
from vipnas.evaluation.metrics import Metrics
from vipnas.evaluation.oks import mean_similarity, suppress
from vipnas.models.posenet import PoseNet

# B batch, K keypoints, H W height and width of the network's input, N all crops


def calibrate_bn(network: PoseNet, images_N3HW: Tensor, batch_size: int) -> None:
    """Measure the batch-norm statistics of this network on fixed uint8 crops, at its own size."""
    batches = inputs_of(network, images_N3HW, network.arch.input_hw, batch_size)
    measure_statistics(network, ((images,) for images in batches))


@torch.no_grad()
def measure_statistics(network: nn.Module, batches: Iterable[tuple[Tensor, ...]]) -> None:
    """Measure the batch-norm statistics of this network on batches of its inputs.

    Every statistic becomes the mean over the batches, each with the weight of its size, so that a
    short last batch counts by its images. The previous statistics are discarded: those of a
    supernet belong to other subnets.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    was_training = network.training
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.train()
    seen = 0
    for inputs in batches:
        count = len(inputs[0])
        seen += count
        for norm in norms:
            norm.momentum = count / seen
        network(*inputs)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.train(was_training)


@dataclass(frozen=True)
class Evaluator:
    """Score networks on fixed crops of one data set.

    The result depends on the network alone.

    Attributes:
        crops: The crops of all persons. They are resized if the codec is for a smaller input.
        ground_truth: The COCO dict of these persons.
        skeleton: The joints.
        codec: Decodes the heatmaps.
        batch_size: How many crops run at a time.
        flip_test: Average the heatmaps over the image and its mirror image.
        box_scores_N: The scores of a detector; None for annotated boxes.
        suppression: OKS-NMS of persons found twice, "hard" or "soft"; None for none.
    """

    crops: Crops
    ground_truth: dict[str, Any]
    skeleton: Skeleton
    codec: HeatmapCodec
    batch_size: int = 64
    flip_test: bool = True
    box_scores_N: NDArray[np.float64] | None = None
    suppression: str | None = None

    def at(self, arch: Arch) -> Evaluator:
        """Return an evaluator for networks of this architecture's sizes, on the same crops."""
        return replace(self, codec=self.codec.at(arch))

    def __call__(self, network: nn.Module) -> Metrics:
        """Return the ten COCO metrics of a network, whose training mode is restored.

        Raises:
            FloatingPointError: Heatmaps are not finite.
        """
        return coco_metrics(self.ground_truth, self.results(network), self.skeleton)

    def results(self, network: nn.Module) -> list[dict[str, Any]]:
        """Return the network's predictions in the COCO results format."""
        return self.results_of(*self.predict(network))

    def results_of(
        self, xy_px: NDArray[np.float64], scores: NDArray[np.float32]
    ) -> list[dict[str, Any]]:
        """Return predictions for all crops in the COCO results format."""
        results = keypoint_results(self.crops.persons, xy_px, scores, self.box_scores_N)
        if self.suppression is None:
            return results
        areas_N = np.array([person.area for person in self.crops.persons])
        return suppress(results, areas_N, self.skeleton, self.suppression)

    def score(self, xy_px: NDArray[np.float64], scores: NDArray[np.float32]) -> float:
        """Return the mean object keypoint similarity (0..1) of predictions, each to the labels
        of its own person: for crops around annotated people, not around boxes of a detector."""
        persons = self.crops.persons
        truth_NK3 = np.array([person.keypoints_K3 for person in persons])
        areas_N = np.array([person.area for person in persons])
        return mean_similarity(xy_px, truth_NK3, areas_N, self.skeleton.sigmas)

    def halves(self) -> tuple[Evaluator, Evaluator] | None:
        """Return evaluators of the first half of the batches and of the rest; None for one batch.

        The batches stay the same and so, to the bit, do the predictions.
        """
        middle = middle_batch(len(self.crops), self.batch_size)
        if middle == 0:
            return None
        boxes = self.box_scores_N
        first, rest = (
            replace(
                self, crops=self.crops.of(rows), box_scores_N=None if boxes is None else boxes[rows]
            )
            for rows in (slice(middle), slice(middle, None))
        )
        return first, rest

    @torch.no_grad()
    def predict(self, network: nn.Module) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Return keypoints (N, K, 2) in pixels of each person's image, and their scores (N, K)."""
        was_training = network.training
        network.eval()
        input_hw, images_N3HW = self.codec.input_hw, self.crops.images_B3HW
        decoded = []
        for images in inputs_of(network, images_N3HW, input_hw, self.batch_size):
            heatmaps_BKHW = self._heatmaps(network, images)
            # One number that is not finite makes the sum so; testing each takes 14 times as long.
            if not torch.isfinite(heatmaps_BKHW.sum()):
                raise FloatingPointError("the network's heatmaps are not finite")
            decoded.append(self.codec.decode(heatmaps_BKHW))
        network.train(was_training)
        crops_h, crops_w = images_N3HW.shape[2:]
        xy_NK2 = resize_points(torch.cat([xy for xy, _ in decoded]), input_hw, (crops_h, crops_w))
        scores_NK = torch.cat([scores for _, scores in decoded])
        return self.crops.to_image(xy_NK2), scores_NK.cpu().numpy()

    def _heatmaps(self, network: nn.Module, images_B3HW: Tensor) -> Tensor:
        if not self.flip_test:
            return run_contiguous(network, images_B3HW)
        codec, flip_order = self.codec, self.skeleton.flip_order
        return flip_tested(network, images_B3HW, codec, flip_order, codec.shift_flipped)


def run_contiguous(run: Callable[[Tensor], Tensor], images_B3HW: Tensor) -> Tensor:
    """Return heatmaps with the joints outermost, which are faster to flip and to decode."""
    return run(images_B3HW).contiguous()


def flip_tested(
    run: Callable[[Tensor], Tensor],
    images_B3HW: Tensor,
    codec: HeatmapCodec,
    flip_order: Sequence[int],
    shift: bool,
) -> Tensor:
    """Return the mean of the heatmaps over the images and their mirror images."""
    heatmaps = run_contiguous(run, images_B3HW)
    mirrored = run_contiguous(run, mirror(images_B3HW, shift))
    return codec.average(heatmaps, mirrored, flip_order, shift)


def middle_batch(count: int, batch_size: int) -> int:
    """Return how many of `count` rows the first half of their batches has."""
    return batch_size * (-(-count // batch_size) // 2)


def mirror(images_B3HW: Tensor, shift: bool) -> Tensor:
    """Mirror images left to right; `shift` takes x to width - x, as in the crops of training.

    Reversing the columns alone takes x to width - 1 - x: with heatmaps shifted back by a whole
    pixel, as in the published networks, that leaves the two predictions one input pixel apart.
    Moved by one column they meet exactly; the column at the edge is repeated.
    """
    mirrored = images_B3HW.flip(3)
    return torch.cat((mirrored[..., :1], mirrored[..., :-1]), dim=3) if shift else mirrored


def inputs_of(
    network: nn.Module, images_N3HW: Tensor, input_hw: SizeHW, batch_size: int
) -> Iterator[Tensor]:
    """Yield batches of uint8 crops as a network takes them: on its device, of its size."""
    device = next(network.parameters()).device
    for images in images_N3HW.split(batch_size):
        yield normalise(resize_crops(images.to(device), input_hw))
