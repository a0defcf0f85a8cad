"""The architecture of an image network: a frozen, hashable value. No torch here."""

from __future__ import annotations

import json
from dataclasses import MISSING, dataclass, fields
from functools import lru_cache
from typing import Any, Literal

from vipnas.errors import UserError
from vipnas.files import Strict, to_plain

# Far above any pose network, and below what no machine can build: a typo ends in one line.
LARGEST = {
    "width": 1 << 16,
    "depth": 1 << 10,
    "kernel_size": 255,
    "groups": 1 << 16,
    "expand_ratio": 64,
    "stride": 64,
    "num_keypoints": 1 << 16,
    "split_ratio": 8,
}
MAX_SIDE_PX = 1 << 14
MAX_WEIGHTS = 1_000_000_000

Family = Literal["residual", "inverted_residual"]
Activation = Literal["relu", "hardswish"]


@dataclass(frozen=True)
class StemArch(Strict):
    """The first convolution, with stride 2; `max_pool` halves the resolution again."""

    width: int
    kernel_size: int
    activation: Activation
    max_pool: bool

    @property
    def stride(self) -> int:
        return 4 if self.max_pool else 2


@dataclass(frozen=True)
class StageArch(Strict):
    """A stage of `depth` equal blocks; the first has the stride and the change of width."""

    width: int
    depth: int
    kernel_size: int
    groups: int
    attention: bool
    expand_ratio: int
    stride: int
    activation: Activation

    @property
    def middle_width(self) -> int:
        """Number of channels of the k x k convolution."""
        return self.width * self.expand_ratio


@dataclass(frozen=True)
class DeconvArch(Strict):
    """One stride-2 deconvolution of the heatmap head."""

    width: int
    kernel_size: int
    groups: int


@dataclass(frozen=True)
class SimccArch(Strict):
    """A head that classifies coordinates, in place of heatmaps (SimCC, Li et al., ECCV 2022).

    A convolution gives one map per joint. Two linear layers take each map to the bins of x and of
    y.

    Attributes:
        kernel_size: Of the convolution; 1 in the published networks.
        split_ratio: Bins per pixel of the input, along each side.
    """

    kernel_size: int
    split_ratio: int = 2


@dataclass(frozen=True)
class Arch(Strict):
    """Everything that `PoseNet` is built from, and nothing that can be computed from it.

    With `simcc`, the last feature map becomes coordinates, else heatmaps.

    Raises:
        UserError: If the parts do not fit, such as groups that do not divide the channels. Its
            place is the field.
    """

    family: Family
    input_hw: tuple[int, int]
    stem: StemArch
    stages: tuple[StageArch, ...]
    head: tuple[DeconvArch, ...]
    num_keypoints: int
    simcc: SimccArch | None = None

    def __post_init__(self) -> None:
        if not self.stages:
            raise UserError("stages", "one stage or more", "none")
        _check_odd_kernel("stem", self.stem.kernel_size)
        _check_count("num_keypoints", self.num_keypoints)
        _check_count("stem.width", self.stem.width)
        channels = self.stem.width
        for number, stage in enumerate(self.stages):
            _check_stage(f"stages[{number}]", stage, channels, self.family)
            channels = stage.width
        for number, deconv in enumerate(self.head):
            _check_deconv(f"head[{number}]", deconv, channels)
            channels = deconv.width
        if self.simcc is not None:
            _check_odd_kernel("simcc", self.simcc.kernel_size)
            _check_count("simcc.split_ratio", self.simcc.split_ratio)
        if any(side <= 0 or side % self.total_stride for side in self.input_hw):
            multiples = f"multiples of {self.total_stride}, the total stride"
            raise UserError("input_hw", multiples, str(list(self.input_hw)))
        for name in ("input_hw", "heatmap_hw"):
            if max(getattr(self, name)) > MAX_SIDE_PX:
                found = str(list(getattr(self, name)))
                raise UserError(name, f"sides up to {MAX_SIDE_PX} px", found)
        if (weights := self._least_weights()) > MAX_WEIGHTS:
            raise UserError(
                "",
                f"up to {MAX_WEIGHTS:,} weights",
                f"{weights:,} or more",
                "check widths, kernel sizes and depths",
            )

    def _least_weights(self) -> int:
        """Return a lower bound of the weights: those of the k x k convolutions."""
        weights, channels = 3 * self.stem.width * self.stem.kernel_size**2, self.stem.width
        for stage in self.stages:
            per_channel = stage.middle_width // stage.groups * stage.kernel_size**2
            weights += stage.depth * stage.middle_width * per_channel
            channels = stage.width
        for deconv in self.head:
            weights += channels * (deconv.width // deconv.groups) * deconv.kernel_size**2
            channels = deconv.width
        if self.simcc is None:
            return weights + channels * self.num_keypoints
        per_map = channels * self.simcc.kernel_size**2
        height, width = self.maps_hw
        return weights + per_map * self.num_keypoints + height * width * sum(self.bins_xy)

    @property
    def total_stride(self) -> int:
        """Number of input pixels per pixel of the last stage, along one side."""
        stride = self.stem.stride
        for stage in self.stages:
            stride *= stage.stride
        return stride

    @property
    def maps_hw(self) -> tuple[int, int]:
        """Height and width of the last feature map."""
        scale = 2 ** len(self.head)
        height, width = self.input_hw
        return height * scale // self.total_stride, width * scale // self.total_stride

    @property
    def bins_xy(self) -> tuple[int, int]:
        """Number of bins along x and along y; none without a SimCC head."""
        ratio = 0 if self.simcc is None else self.simcc.split_ratio
        return ratio * self.input_hw[1], ratio * self.input_hw[0]

    @property
    def heatmap_hw(self) -> tuple[int, int]:
        """Height and width of the output: with SimCC one row, the bins of x, then those of y."""
        return self.maps_hw if self.simcc is None else (1, sum(self.bins_xy))

    def to_json(self) -> str:
        """Return one line of JSON, the same for equal architectures."""
        return json.dumps(to_plain(self), separators=(",", ":"))


def later_choices(kind: type[StemArch | StageArch | DeconvArch]) -> dict[str, Any]:
    """Return the choices that a part gained after files were written, and what those files mean."""
    return {field.name: field.default for field in fields(kind) if field.default is not MISSING}


@lru_cache(maxsize=1 << 16)  # a search builds millions of networks out of hundreds of stages
def _check_stage(place: str, stage: StageArch, in_channels: int, family: Family) -> None:
    for name in ("width", "depth", "groups", "expand_ratio", "stride"):
        _check_count(f"{place}.{name}", getattr(stage, name))
    _check_odd_kernel(place, stage.kernel_size)
    _check_groups(place, stage.groups, stage.middle_width)
    if family == "inverted_residual" and stage.expand_ratio == 1:
        # Without expansion, the k x k convolution of the first block reads the stage's input.
        _check_groups(place, stage.groups, in_channels)


def _check_deconv(place: str, deconv: DeconvArch, in_channels: int) -> None:
    _check_count(f"{place}.width", deconv.width)
    _check_count(f"{place}.groups", deconv.groups)
    if deconv.kernel_size not in (2, 4):
        raise UserError(f"{place}.kernel_size", "2 or 4", str(deconv.kernel_size))
    _check_groups(place, deconv.groups, deconv.width)
    _check_groups(place, deconv.groups, in_channels)


def _check_count(place: str, value: int) -> None:
    largest = LARGEST[place.rpartition(".")[2]]
    if not 1 <= value <= largest:
        raise UserError(place, f"a whole number from 1 to {largest}", str(value))


def _check_odd_kernel(place: str, kernel_size: int) -> None:
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise UserError(f"{place}.kernel_size", "an odd number", str(kernel_size))
    _check_count(f"{place}.kernel_size", kernel_size)


def _check_groups(place: str, groups: int, channels: int) -> None:
    if channels % groups:
        raise UserError(f"{place}.groups", f"a divisor of {channels} channels", str(groups))
