"""The operations of a layer, as features that a regression learns milliseconds from.

They are recorded while the layer runs on an empty batch, where nothing is computed. So features
follow the code, and no layer is described twice.
"""

from __future__ import annotations

import math
from collections import Counter
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vipnas.models.counting import MacCounter
from vipnas.models.posenet import Layer

# Processors compute 4 to 16 channels at a time, so that the cost of few channels per group does not
# follow MACs. Each power of two up to this one gets a rate of its own.
MAX_CHANNELS_PER_GROUP = 32
ALIGNMENT = 16
FAMILIES = ("pointwise", "spatial", "deconv", "product", "other")


class Operation(NamedTuple):
    """One operation on one image.

    Attributes:
        family: One of FAMILIES.
        kind: The kernel that runtimes have for it; finer than the family.
        macs: Multiply-accumulates.
        elements: Elements of inputs, weights and output.
        channels_per_group: Input channels of a group.
        kernel_size: Of a square kernel.
    """

    family: str
    kind: str
    macs: int
    elements: int
    channels_per_group: int = 1
    kernel_size: int = 1

    @property
    def amounts(self) -> dict[str, float]:
        return {
            f"{self.kind}.macs": self.macs,
            f"{self.kind}.elements": self.elements,
            f"{self.kind}.count": 1,
        }

    @property
    def position(self) -> tuple[float, ...]:
        """The coordinates among operations of its family, on scales as those of `Description`."""
        return (
            math.log2(1 + self.macs / 1e4),
            math.log2(1 + self.elements / 1e3),
            math.log2(self.channels_per_group),
            math.log2(_alignment(self)),
            math.log2(self.kernel_size),
        )


class Description(NamedTuple):
    """The features of a layer.

    Attributes:
        operations: In the order they run.
        amounts: MACs, elements and number of operations of each kind; they add up over layers.
        position: The layer's coordinates, on logarithmic scales.
    """

    operations: tuple[Operation, ...]
    amounts: dict[str, float]
    position: np.ndarray


@lru_cache(maxsize=1 << 18)
def describe(layer: Layer) -> Description:
    """Return the features of a layer, whatever its name."""
    operations = _operations(layer)
    amounts: Counter[str] = Counter()
    for operation in operations:
        amounts.update(operation.amounts)
    return Description(tuple(operations), dict(amounts), _position(operations))


def _position(operations: list[Operation]) -> np.ndarray:
    coordinates: list[float] = []
    for family in FAMILIES:
        chosen = [operation for operation in operations if operation.family == family]
        coordinates += [
            np.log2(1 + sum(operation.macs for operation in chosen) / 1e4),
            np.log2(1 + sum(operation.elements for operation in chosen) / 1e3),
            np.log2(max((operation.channels_per_group for operation in chosen), default=1)),
            np.log2(min((_alignment(operation) for operation in chosen), default=1)),
            np.log2(max((operation.kernel_size for operation in chosen), default=1)),
            len(chosen),
        ]
    return np.array(coordinates)


def _alignment(operation: Operation) -> int:
    """Return the largest power of two up to 16 that divides the channels of a group.

    Vector units take 8 or 16 channels, and libraries have other kernels for the rest.
    """
    return math.gcd(operation.channels_per_group, ALIGNMENT)


def _operations(layer: Layer) -> list[Operation]:
    module = layer.build().eval()
    x = torch.empty(0, layer.in_channels, *layer.in_hw)
    recorder = _Recorder()
    with torch.no_grad(), recorder:
        module(x, layer.arch)
    return recorder.operations


class _Recorder(MacCounter):
    """Records every operation that runs inside and returns a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Operation] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        macs_before = self.macs
        out = super().__torch_function__(func, types, args, kwargs)
        # Getters of tensors are functions too. Batch norm folds into the convolution before it.
        if isinstance(out, Tensor) and func.__name__ != "__get__" and func is not F.batch_norm:
            self.operations.append(_operation(func, out, args, self.macs - macs_before))
        return out


def _operation(func: Any, out: Tensor, args: tuple[Any, ...], macs: int) -> Operation:
    tensors = [argument for argument in args if isinstance(argument, Tensor)]
    elements = sum(_elements(tensor) for tensor in (*tensors, out))
    if func is F.conv2d:
        return _convolution(args[1], macs, elements)
    if func is F.conv_transpose2d:
        return _deconvolution(args[1], out, macs, elements)
    kind = "product" if macs else "other"
    return Operation(kind, kind, macs, elements)


def _elements(tensor: Tensor) -> int:
    """Return the elements for one image; of a weight, all of them."""
    empty_batch = tensor.dim() > 0 and tensor.shape[0] == 0
    return tensor.shape[1:].numel() if empty_batch else tensor.numel()


def _convolution(weight: Tensor, macs: int, elements: int) -> Operation:
    _, per_group, kernel_size, _ = weight.shape
    size = f"{kernel_size}x{kernel_size}"
    if kernel_size == 1:
        return Operation("pointwise", "pointwise", macs, elements)
    if per_group == 1:
        return Operation("spatial", f"depthwise {size}", macs, elements, 1, kernel_size)
    kind = f"spatial {_grouping(per_group)}"
    return Operation("spatial", kind, macs, elements, per_group, kernel_size)


def _deconvolution(weight: Tensor, out: Tensor, macs: int, elements: int) -> Operation:
    """A depthwise deconvolution has a kernel of its own; two inputs for an output are not it."""
    in_channels, per_group, kernel_size, _ = weight.shape
    depthwise = per_group == 1 and in_channels == out.shape[1]
    kind = "deconv depthwise" if depthwise else f"deconv {_grouping(per_group)}"
    return Operation("deconv", kind, macs, elements, per_group, kernel_size)


def _grouping(channels: int) -> str:
    """Return the channels per group, up to a power of two, and their alignment if it is smaller."""
    power = min(MAX_CHANNELS_PER_GROUP, 2 ** math.ceil(math.log2(channels)))
    whole = math.gcd(channels, ALIGNMENT)
    rest = "" if whole == min(power, ALIGNMENT) else f" in steps of {whole}"
    return f"{power} per group{rest}"
