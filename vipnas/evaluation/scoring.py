"""Score an architecture with the weights of the supernet, in this process or in another one."""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vipnas.arch.image import Arch
from vipnas.evaluation.evaluator import Evaluator, inputs_of
from vipnas.evaluation.metrics import Metrics
from vipnas.evaluation.subnets import take_subnet
from vipnas.models.fold import fold_batch_norm
from vipnas.models.posenet import PoseNet
from vipnas.space.image import SearchSpace

A = TypeVar("A")


class Evaluates(Protocol):
    """Scores networks on fixed crops or clips."""

    batch_size: int

    def at(self, arch: Any) -> Evaluates: ...
    def __call__(self, network: Any) -> Metrics: ...
    def predict(self, network: Any) -> tuple[NDArray[np.float64], NDArray[np.float32]]: ...
    def score(self, xy: NDArray[np.float64], scores: NDArray[np.float32]) -> float: ...
    def halves(self) -> tuple[Evaluates, Evaluates] | None: ...


class Inherited(ABC, Generic[A]):
    """The quality of an architecture with the supernet's weights: extract, calibrate, fold, score.

    A function of the weights, the crops and the architecture alone.
    """

    evaluator: Any
    early_stop_margin: float

    @abstractmethod
    def network(self, arch: A) -> nn.Module:
        """Return the subnet, calibrated, for inference only."""

    @abstractmethod
    def to(self, device: torch.device) -> Inherited[A]:
        """Return the same on a device."""

    @abstractmethod
    def of(self, supernet: nn.Module) -> Inherited[A]:
        """Return the same for other weights."""

    @abstractmethod
    def seen(self, network: nn.Module, count: int) -> tuple[Tensor, Tensor]:
        """Return the first crops (count, 3, H, W), uint8, and the network's heatmaps of them."""

    def metrics(self, arch: A) -> Metrics:
        return self.metrics_of(self.network(arch), arch)

    def metrics_of(self, network: nn.Module, arch: A) -> Metrics:
        """Return the metrics of a subnet that `network` returned."""
        metrics: Metrics = self.evaluator.at(arch)(network)
        return metrics

    def __call__(self, arch: A) -> float:
        """Return the score, in 0..1.

        Raises:
            FloatingPointError: Heatmaps are not finite.
            MemoryError: The architecture does not fit into memory.
        """
        return self.above(arch, -math.inf)[0]

    def above(self, arch: A, floor: float) -> tuple[float, bool]:
        """Return the score and whether scoring stopped early.

        It stops early if the first half of the persons scores more than the margin below `floor`.
        The score is then that of this half. Raises what a call raises.
        """
        try:
            return self._above(arch, floor)
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
            reason = str(error).splitlines()[0]
        # Outside of the handler, where the error's frames no longer hold memory.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        raise MemoryError(reason)

    def _above(self, arch: A, floor: float) -> tuple[float, bool]:
        network, halves = self.network(arch), self._halves
        if math.isinf(floor) or halves is None:
            return self.evaluator.score(*self.evaluator.at(arch).predict(network)), False
        first, rest = (half.at(arch) for half in halves)
        found = first.predict(network)
        rough = first.score(*found)
        if rough + self.early_stop_margin < floor:
            return rough, True
        more = rest.predict(network)
        xy, scores = np.concatenate((found[0], more[0])), np.concatenate((found[1], more[1]))
        return self.evaluator.score(xy, scores), False

    @cached_property
    def _halves(self) -> tuple[Evaluates, Evaluates] | None:
        evaluator: Evaluates = self.evaluator
        return evaluator.halves()


@dataclass(frozen=True)
class InheritedScore(Inherited[Arch]):
    """The quality of an image network's architecture with the supernet's weights.

    It is the mean object keypoint similarity of persons to their own labels, which counts every
    joint by its error. AP ranks worse, because few persons are above its thresholds with shared
    weights (`experiments/reports/ranking_2026-11-26.md`).

    A copy for another process, made by pickling, shares the memory of the crops where the transport
    can (Ray's object store can).
    """

    supernet: PoseNet
    space: SearchSpace
    evaluator: Evaluator
    calibration_images_N3HW: Tensor
    early_stop_margin: float = 0.0

    def to(self, device: torch.device) -> InheritedScore:
        """Move the supernet, in place, and all crops to a device."""
        crops = self.evaluator.crops
        crops = replace(crops, images_B3HW=crops.images_B3HW.to(device))
        return replace(
            self,
            supernet=self.supernet.to(device),
            evaluator=replace(self.evaluator, crops=crops),
            calibration_images_N3HW=self.calibration_images_N3HW.to(device),
        )

    def of(self, supernet: nn.Module) -> InheritedScore:
        assert isinstance(supernet, PoseNet)
        return replace(self, supernet=supernet)

    @torch.no_grad()
    def seen(self, network: nn.Module, count: int) -> tuple[Tensor, Tensor]:
        assert isinstance(network, PoseNet)
        images_B3HW = self.evaluator.crops.images_B3HW[:count]
        (images,) = inputs_of(network, images_B3HW, network.arch.input_hw, count)
        codec = self.evaluator.codec.at(network.arch)
        return images_B3HW, codec.pictures(network(images))

    def network(self, arch: Arch) -> PoseNet:
        """Return the subnet, calibrated, for inference only: batch norm is folded."""
        images_N3HW, batch_size = self.calibration_images_N3HW, self.evaluator.batch_size
        subnet = take_subnet(
            self.supernet, self.space, arch, images_N3HW, batch_size, "the supernet"
        )
        fold_batch_norm(subnet)
        return subnet

    def __reduce__(self) -> tuple[Any, ...]:
        crops = self.evaluator.crops
        return _rebuild, (
            self.supernet,
            self.space,
            replace(self.evaluator, crops=replace(crops, images_B3HW=None)),  # type: ignore[arg-type]
            _as_array(crops.images_B3HW),
            _as_array(self.calibration_images_N3HW),
            self.early_stop_margin,
        )


def _rebuild(
    supernet: PoseNet,
    space: SearchSpace,
    evaluator: Evaluator,
    images_NHW3: NDArray[np.uint8],
    calibration_images_NHW3: NDArray[np.uint8],
    early_stop_margin: float,
) -> InheritedScore:
    crops = replace(evaluator.crops, images_B3HW=_as_tensor(images_NHW3))
    evaluator = replace(evaluator, crops=crops)
    calibration_images = _as_tensor(calibration_images_NHW3)
    return InheritedScore(supernet, space, evaluator, calibration_images, early_stop_margin)


def _as_array(images_N3HW: Tensor) -> NDArray[np.uint8]:
    """Return the images in their memory order, so that processes share them without a copy."""
    return images_N3HW.cpu().permute(0, 2, 3, 1).contiguous().numpy()


def _as_tensor(images_NHW3: NDArray[np.uint8]) -> Tensor:
    with warnings.catch_warnings():
        # Memory shared between processes is read-only, and nothing here writes to it.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(images_NHW3).permute(0, 3, 1, 2)


def _is_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
