"""The quality of an architecture with the weights it has in the supernet, at the speed of its
forward pass, in this process or in another one."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vipnas.arch.image import Arch
from vipnas.data.crops.crops import Crops
from vipnas.evaluation.evaluator import Evaluator, calibrate_bn
from vipnas.evaluation.metrics import Metrics
from vipnas.models.fold import fold_batch_norm
from vipnas.models.posenet import PoseNet, extract


@dataclass(frozen=True)
class InheritedScore:
    """The quality of an arch with the supernet's weights: extract, calibrate, fold, evaluate.

    It is the mean object keypoint similarity of people to their own labels, which counts every
    joint by how far it is off. AP counts people who are better than a threshold: with weights
    shared by millions of archs and trained for minutes there are few or none of these, and it
    ranks worse (`experiments/reports/ranking_2026-11-26.md`).

    A function of the weights, the crops and the arch alone. A copy for another process, made by
    pickling, shares the memory of the crops where the transport can (Ray's object store can).
    """

    supernet: PoseNet
    evaluator: Evaluator
    calibration_images_N3HW: Tensor
    early_stop_margin: float = 0.0

    def to(self, device: torch.device) -> InheritedScore:
        """The same with the weights and all crops on a device; the supernet is moved in place."""
        crops = self.evaluator.crops
        crops = replace(crops, images_B3HW=crops.images_B3HW.to(device))
        return InheritedScore(
            self.supernet.to(device),
            replace(self.evaluator, crops=crops),
            self.calibration_images_N3HW.to(device),
            self.early_stop_margin,
        )

    def network(self, arch: Arch) -> PoseNet:
        """The subnet, calibrated, to be run only: batch norm is folded into its convolutions."""
        subnet = extract(self.supernet, arch).eval()
        calibrate_bn(subnet, self.calibration_images_N3HW, self.evaluator.batch_size)
        fold_batch_norm(subnet)
        return subnet

    def metrics(self, arch: Arch) -> Metrics:
        return self.evaluator(self.network(arch))

    def __call__(self, arch: Arch) -> float:
        """In 0..1.

        Raises FloatingPointError for heatmaps that are not finite, MemoryError where the arch does
        not fit into the memory.
        """
        return self.above(arch, -math.inf)[0]

    def above(self, arch: Arch, floor: float) -> tuple[float, bool]:
        """The score and False; or, if on the first half of the people it is more than the margin
        below the floor, the score there and True. Raises what a call raises."""
        try:
            return self._above(arch, floor)
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
            reason = str(error).splitlines()[0]
        # Outside of the handler, so that the error's frames hold none of the memory any more.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        raise MemoryError(reason)

    def _above(self, arch: Arch, floor: float) -> tuple[float, bool]:
        network, halves = self.network(arch), self._halves
        if math.isinf(floor) or halves is None:
            return self.evaluator.similarity(self.evaluator.predict(network)[0]), False
        first, rest = halves
        found = first.predict(network)[0]
        rough = first.similarity(found)
        if rough + self.early_stop_margin < floor:
            return rough, True
        more = rest.predict(network)[0]
        return self.evaluator.similarity(np.concatenate((found, more))), False

    @cached_property
    def _halves(self) -> tuple[Evaluator, Evaluator] | None:
        """Evaluators of the first half of the batches and of the others; None for a single batch.

        The batches stay the same ones, and so, to the bit, the predictions.
        """
        evaluator, crops = self.evaluator, self.evaluator.crops
        middle = evaluator.batch_size * (-(-len(crops) // evaluator.batch_size) // 2)
        if middle == 0:
            return None
        first, rest = (
            replace(
                evaluator,
                crops=Crops(
                    crops.images_B3HW[rows],
                    crops.keypoints_BK3[rows],
                    crops.persons[rows],
                    crops.image_from_input_B23[rows],
                ),
                box_scores_N=None
                if evaluator.box_scores_N is None
                else evaluator.box_scores_N[rows],
            )
            for rows in (slice(middle), slice(middle, None))
        )
        return first, rest

    def __reduce__(self) -> tuple[Any, ...]:
        crops = self.evaluator.crops
        return _rebuild, (
            self.supernet,
            replace(self.evaluator, crops=replace(crops, images_B3HW=None)),  # type: ignore[arg-type]
            _as_array(crops.images_B3HW),
            _as_array(self.calibration_images_N3HW),
            self.early_stop_margin,
        )


def _rebuild(
    supernet: PoseNet,
    evaluator: Evaluator,
    images_NHW3: NDArray[np.uint8],
    calibration_images_NHW3: NDArray[np.uint8],
    early_stop_margin: float,
) -> InheritedScore:
    crops = replace(evaluator.crops, images_B3HW=_as_tensor(images_NHW3))
    evaluator = replace(evaluator, crops=crops)
    calibration_images = _as_tensor(calibration_images_NHW3)
    return InheritedScore(supernet, evaluator, calibration_images, early_stop_margin)


def _as_array(images_N3HW: Tensor) -> NDArray[np.uint8]:
    """As they lie in the memory: arrays travel between processes without being copied."""
    return images_N3HW.cpu().permute(0, 2, 3, 1).contiguous().numpy()


def _as_tensor(images_NHW3: NDArray[np.uint8]) -> Tensor:
    with warnings.catch_warnings():
        # Memory that processes share cannot be written to, and nobody here wants to.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(images_NHW3).permute(0, 3, 1, 2)


def _is_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
