"""Output forms of pose models in ONNX: one class each, by its name in `FORMS`.

The attributes of a class are the options of its form in a description.

N crops, K joints, H W height and width of the model's input, h w those of its heatmaps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit

from vipnas.data.codecs.heatmap import make_codec
from vipnas.deploy.described_model import unlike
from vipnas.deploy.description import Array, Outputs
from vipnas.errors import UserError
from vipnas.files import Strict

FloatArray = NDArray[np.float64]
SizeHW = tuple[int, int]

# Joints outside of the crop are coordinates outside of 0..1, but not by more than a crop.
LOWEST, HIGHEST = -1.0, 2.0


@dataclass(frozen=True)
class Joints:
    """Places (N, K, 2), x and y in pixels of the model's input, and scores (N, K)."""

    xy: FloatArray
    scores: NDArray[np.float32]


class PoseForm(Protocol):
    """Read joints from the outputs of a batch."""

    def span_hw(self, input_hw: SizeHW) -> SizeHW:
        """Return the input pixels that a crop is mapped onto; see `vipnas.data.crops.geometry`."""
        ...

    def joints(self, outputs: Outputs, input_hw: SizeHW, num_crops: int, num_joints: int) -> Joints:
        """Return the joints; raise UserError for outputs of another form."""
        ...


@dataclass(frozen=True)
class Coordinates(Strict):
    """One output (N, K, columns), with axes of 1 anywhere between.

    Attributes:
        columns: What the numbers of a joint are: `x`, `y`, `score`, `ignored`. Without `score`,
            all joints score 1.
        normalised: Whether x and y are in 0..1 of the input, rather than in pixels.
        activation: Of the score, unless the model has applied it.
    """

    columns: tuple[Literal["x", "y", "score", "ignored"], ...] = ("x", "y", "score")
    normalised: bool = True
    activation: Literal["none", "sigmoid"] = "none"

    def __post_init__(self) -> None:
        if any(self.columns.count(name) != 1 for name in ("x", "y")):
            raise UserError("columns", "x and y once each", str(list(self.columns)))
        if self.columns.count("score") > 1:
            raise UserError("columns", "one score", str(list(self.columns)))

    def span_hw(self, input_hw: SizeHW) -> SizeHW:
        return input_hw

    def joints(self, outputs: Outputs, input_hw: SizeHW, num_crops: int, num_joints: int) -> Joints:
        shape = (num_crops, num_joints, len(self.columns))
        arrays = list(outputs.values())
        if len(arrays) != 1 or arrays[0].size != np.prod(shape):
            raise unlike(f"one {shape}", outputs)
        values = arrays[0].reshape(shape).astype(np.float64)
        by_name = {name: values[..., number] for number, name in enumerate(self.columns)}
        xy = np.stack((by_name["x"], by_name["y"]), axis=2)
        self._check_unit(xy)
        scores = by_name.get("score", np.ones(shape[:2]))
        if self.activation == "sigmoid":
            scores = expit(scores)
        scale = np.array(input_hw[::-1]) if self.normalised else 1
        return Joints(xy * scale, scores.astype(np.float32))

    def _check_unit(self, xy_NK2: FloatArray) -> None:
        low, high = xy_NK2.min(), xy_NK2.max()
        if self.normalised and not LOWEST <= low <= high <= HIGHEST:
            raise UserError(
                "outputs",
                "x and y in 0..1 of the input",
                f"{low:.3g} to {high:.3g}",
                "is normalised false?",
            )


@dataclass(frozen=True)
class Heatmaps(Strict):
    """One output (N, K, h, w).

    Attributes:
        codec: How a peak is read, as in an experiment: `quarter`, `dark` or `udp`.
        sigma_px: Of the Gaussians that the model was trained with, in heatmap pixels.
    """

    codec: Literal["quarter", "dark", "udp"] = "quarter"
    sigma_px: float = 2.0

    def span_hw(self, input_hw: SizeHW) -> SizeHW:
        return make_codec(self.codec, input_hw, input_hw, self.sigma_px).span_hw

    def joints(self, outputs: Outputs, input_hw: SizeHW, num_crops: int, num_joints: int) -> Joints:
        arrays = list(outputs.values())
        if len(arrays) != 1 or not _starts(arrays[0], num_crops, num_joints, 4):
            raise unlike(f"one ({num_crops}, {num_joints}, height, width)", outputs)
        height, width = arrays[0].shape[2:]
        codec = make_codec(self.codec, input_hw, (height, width), self.sigma_px)
        xy, scores = codec.decode(torch.from_numpy(arrays[0].astype(np.float32)))
        return Joints(xy.double().numpy(), scores.numpy())


@dataclass(frozen=True)
class SimCC(Strict):
    """Two outputs, (N, K, W x split) and (N, K, H x split): how likely a joint is in each column
    and in each row, finer than pixels by any `split`. A joint scores the lower of both peaks."""

    def span_hw(self, input_hw: SizeHW) -> SizeHW:
        return input_hw

    def joints(self, outputs: Outputs, input_hw: SizeHW, num_crops: int, num_joints: int) -> Joints:
        height, width = input_hw
        arrays = list(outputs.values())
        if (
            len(arrays) != 2
            or not all(_starts(array, num_crops, num_joints, 3) for array in arrays)
            or arrays[0].shape[2] * height != arrays[1].shape[2] * width
        ):
            raise unlike(
                f"x ({num_crops}, {num_joints}, {width} x split) and y ({num_crops}, {num_joints},"
                f" {height} x split)",
                outputs,
            )
        split = arrays[0].shape[2] / width
        xy = np.stack([array.argmax(axis=2) for array in arrays], axis=2) / split
        scores = np.minimum(*(array.max(axis=2) for array in arrays))
        return Joints(xy, scores.astype(np.float32))


FORMS: dict[str, type[PoseForm]] = {
    "coordinates": Coordinates,
    "heatmaps": Heatmaps,
    "simcc": SimCC,
}


def _starts(array: Array, num_crops: int, num_joints: int, rank: int) -> bool:
    return array.ndim == rank and array.shape[:2] == (num_crops, num_joints)
