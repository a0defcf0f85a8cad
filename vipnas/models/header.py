"""The header of a model file: all that is needed to run its weights, as JSON."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeAlias

from vipnas.arch.clip import Fusion, KeyFrameRule, VideoArch
from vipnas.arch.codec import CodecName
from vipnas.arch.image import Arch
from vipnas.arch.skeleton import Skeleton
from vipnas.errors import UserError, shown
from vipnas.files import Strict, parse, to_plain
from vipnas.space.clip import VideoSpace
from vipnas.space.image import SearchSpace
from vipnas.space.yaml import parse_space

FORMAT_VERSION = "1.2"
METADATA_KEY = "vipnas"
MAX_HEADER_BYTES = 4 << 20

Kind = Literal["image", "clip", "supernet", "clip_supernet"]
HeaderMetrics: TypeAlias = dict[str, float | int | str]


@dataclass(frozen=True)
class InputFormat(Strict):
    """How the input of a network is made from the box of a person.

    Attributes:
        hw: Height and width of the input in pixels.
        mean: Mean of each channel, whose values are in 0..1.
        std: Standard deviation of each channel.
        box_padding: The factor by which the box is enlarged.
        flip_shift: Whether heatmaps of mirrored crops are shifted by a pixel before averaging.
        colour_order: Order of the channels.
        aspect: `extend`: the box is extended to the aspect ratio of the input. `stretch`: the crop
            is stretched to it.
        interpolation: How pixels are resampled.
    """

    hw: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    box_padding: float
    flip_shift: bool
    colour_order: Literal["rgb"] = "rgb"
    aspect: Literal["extend", "stretch"] = "extend"
    interpolation: Literal["bilinear"] = "bilinear"


@dataclass(frozen=True)
class BatchNorm(Strict):
    """The state of the batch-norm statistics.

    Attributes:
        calibrated: Whether they were measured for these weights.
        on: The images that they were measured on.
    """

    calibrated: bool
    on: str | None = None


@dataclass(frozen=True)
class Provenance(Strict):
    """The origin of the weights, without absolute paths and user names.

    Attributes:
        experiment: The name of the experiment.
        seed: The seed of the experiment.
        threads: CPU threads of PyTorch.
        commit: The commit of vipnas, if it ran from a checkout.
        vipnas: The version of vipnas.
        torch: The version of PyTorch.
        data: Digests of the data sets by name.
    """

    experiment: str | None = None
    seed: int | None = None
    threads: int | None = None
    commit: str | None = None
    vipnas: str | None = None
    torch: str | None = None
    data: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelHeader(Strict):
    """All that is needed to run the weights of a file.

    Attributes:
        kind: The kind of network.
        skeleton: The joints.
        codec: How heatmaps are decoded.
        sigma_px: The standard deviation of the target heatmaps in pixels; of `simcc`, in pixels of
            the input.
        input: How the input is made.
        batch_norm: The state of the batch-norm statistics.
        arch: The architecture of an image network; the largest one of a supernet.
        clip: The architectures of a clip; the largest ones of a `clip_supernet`.
        space: The search space of a supernet, by content.
        space_name: The name of that space.
        fusions: The options for the fusion in a `clip_supernet`.
        warp: Whether a follow-up frame of a `clip_supernet` may run no network.
        key_frames: When key frames of a clip come by need; None is one every T + 1 frames.
        score: The meaning of the score of a joint; for `simcc`, see `SimccCodec`.
        provenance: The origin of the weights.
        metrics: Metrics of the network by name.
        shared: Names of tensors that are stored under another name, and that name.
        format_version: The version of the file format.

    Raises:
        UserError: If a part is missing, or is inconsistent with the others.
    """

    kind: Kind
    skeleton: Skeleton
    codec: CodecName
    sigma_px: float
    input: InputFormat
    batch_norm: BatchNorm
    arch: Arch | None = None
    clip: VideoArch | None = None
    space: dict[str, Any] | None = None
    space_name: str | None = None
    fusions: tuple[Fusion | None, ...] = ()
    warp: bool = False
    key_frames: KeyFrameRule | None = None
    score: Literal["heatmap maximum"] = "heatmap maximum"
    provenance: Provenance = field(default_factory=Provenance)
    metrics: HeaderMetrics = field(default_factory=dict)
    shared: dict[str, str] = field(default_factory=dict)
    format_version: str = FORMAT_VERSION

    def __post_init__(self) -> None:
        for name, kinds in (
            ("arch", ("image", "supernet", "clip_supernet")),
            ("clip", ("clip", "clip_supernet")),
            ("space", ("supernet", "clip_supernet")),
        ):
            if (getattr(self, name) is not None) != (self.kind in kinds):
                both = ("a value", "none") if self.kind in kinds else ("none", "a value")
                raise UserError(name, f"{both[0]} in a file of kind {self.kind}", both[1])
        if not self.sigma_px > 0:
            raise UserError("sigma_px", "a number of pixels above 0", f"{self.sigma_px:g}")
        if self.shared and self.kind != "clip":
            raise UserError("shared", f"none in a file of kind {self.kind}", shown(self.shared))
        for name, found, wanted in (
            ("input.hw", self.input.hw, self.key_frame.input_hw),
            ("skeleton.joints", self.skeleton.num_joints, self.key_frame.num_keypoints),
        ):
            if found != wanted:
                raise UserError(name, f"{wanted}, as in the arch", str(found))

    @property
    def key_frame(self) -> Arch:
        """The architecture for key frames, or the largest one of a supernet."""
        arch = self.arch if self.clip is None else self.clip.key_frame
        assert arch is not None
        return arch

    def to_json(self) -> str:
        """Return the header as one line of JSON, the same for equal headers."""
        return json.dumps(to_plain(self), separators=(",", ":"))

    def search_space(self, where: str) -> SearchSpace:
        """Return the space of the supernet; that of the follow-up networks for clips."""
        if self.space is None:
            raise UserError(where, "a supernet", f"a file of kind {self.kind}")
        return parse_space(self.space, self.space_name or "unnamed", f"{where}: space")

    def video_space(self, where: str) -> VideoSpace:
        """Return the space of a supernet of clips."""
        if self.kind != "clip_supernet":
            raise UserError(where, "a supernet of clips", f"a file of kind {self.kind}")
        assert self.clip is not None
        space, num_follow_ups = self.search_space(where), len(self.clip.follow_ups)
        return VideoSpace(self.clip.key_frame, space, self.fusions, num_follow_ups, self.warp)


def header_from_json(text: str, where: str) -> ModelHeader:
    """Read a header from JSON, the inverse of `ModelHeader.to_json`.

    Unknown keys of a newer minor version are ignored, except inside architectures, fusions and key
    frames, which say what runs.

    Args:
        text: The JSON string.
        where: The name of the file, for errors.

    Raises:
        UserError: If the major version differs, or the string is no header.
    """
    if len(text) > MAX_HEADER_BYTES:
        raise UserError(where, f"up to {MAX_HEADER_BYTES:,} bytes", f"{len(text):,}")
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(where, "JSON", str(error)) from None
    if not isinstance(raw, dict):
        raise UserError(where, "an object", type(raw).__name__)
    version = str(raw.get("format_version"))
    if not (parts := re.fullmatch(r"(\d{1,4})\.(\d{1,4})", version)):
        raise UserError(f"{where}: format_version", "a version such as 1.0", version)
    major, minor = (int(part) for part in FORMAT_VERSION.split("."))
    if int(parts[1]) != major:
        raise UserError(f"{where}: format_version", f"{major}.x", version)
    if int(parts[2]) > minor:
        raw = _known(ModelHeader, raw)
        sections = {
            "skeleton": Skeleton,
            "input": InputFormat,
            "batch_norm": BatchNorm,
            "provenance": Provenance,
        }
        raw |= {name: _known(kind, raw[name]) for name, kind in sections.items() if name in raw}
    return parse(ModelHeader, raw, where)


def _known(kind: type, raw: Any) -> Any:
    names = {known.name for known in fields(kind)}
    return {key: raw[key] for key in raw if key in names} if isinstance(raw, dict) else raw
