"""Model files: safetensors whose one metadata key holds, as JSON, all that is needed to run them.

Nothing in such a file is executed. Tensors of a clip are named `key_frame.NAME` and
`follow_up.N.NAME`, N from 1; what follow-up frames share is stored once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from vipnas.arch.clip import Fusion, VideoArch
from vipnas.arch.image import Arch
from vipnas.arch.skeleton import Skeleton
from vipnas.errors import UserError
from vipnas.files import Strict, parse, to_plain, write_atomically
from vipnas.models.clipnet import FollowUpNet, VideoNet, build_video_net
from vipnas.models.posenet import PoseNet
from vipnas.space.clip import VideoSpace
from vipnas.space.image import SearchSpace
from vipnas.space.yaml import parse_space

FORMAT_VERSION = "1.0"
SUFFIX = ".safetensors"
METADATA_KEY = "vipnas"
MAX_HEADER_BYTES = 4 << 20

Kind = Literal["image", "clip", "supernet", "clip_supernet"]
CodecName = Literal["quarter", "dark", "udp"]
HeaderMetrics: TypeAlias = dict[str, float | int | str]


@dataclass(frozen=True)
class InputFormat(Strict):
    """What a network is shown of a person: `hw` pixels of the padded box.

    The box is extended to the aspect ratio of the input, then enlarged by `box_padding`. `mean` and
    `std` are of channel values in 0..1. `flip_shift`: heatmaps of mirrored crops are shifted by a
    pixel before they are averaged.
    """

    hw: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    box_padding: float
    flip_shift: bool
    colour_order: Literal["rgb"] = "rgb"
    aspect: Literal["extend"] = "extend"
    interpolation: Literal["bilinear"] = "bilinear"


@dataclass(frozen=True)
class BatchNorm(Strict):
    """Whether the batch-norm statistics are those of these weights, and what they were measured
    on."""

    calibrated: bool
    on: str | None = None


@dataclass(frozen=True)
class Provenance(Strict):
    """Where the weights come from. No absolute paths, no user names.

    `data` are digests by name; `commit` is that of vipnas where it ran from a checkout.
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

    `arch` is that of an image network, and of a supernet the largest; `clip` are the networks of a
    clip, and of a `clip_supernet` the largest of a clip. Supernets have their `space` by content,
    those of clips the options of the `fusions` besides. `score` says what the score of a joint
    means. `shared` names the tensors that are stored under another name.

    Raises ValueError where a part is missing, or does not fit the others.
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
                needed = "it" if self.kind in kinds else "none"
                raise ValueError(f"{name}: expected {needed} in a file of kind {self.kind}")
        if self.shared and self.kind != "clip":
            raise ValueError(f"shared: expected none in a file of kind {self.kind}")
        for name, found, wanted in (
            ("input.hw", self.input.hw, self.key_frame.input_hw),
            ("skeleton.joints", self.skeleton.num_joints, self.key_frame.num_keypoints),
        ):
            if found != wanted:
                raise ValueError(f"{name}: expected {wanted}, as in the arch, got {found}")

    @property
    def key_frame(self) -> Arch:
        """The network that sees an image alone, or the largest of them."""
        arch = self.arch if self.clip is None else self.clip.key_frame
        assert arch is not None
        return arch

    def to_json(self) -> str:
        """One line, the same for equal headers."""
        return json.dumps(to_plain(self), separators=(",", ":"))

    def search_space(self, where: str) -> SearchSpace:
        """The space of the supernet; of clips that of the follow-up networks."""
        if self.space is None:
            raise ValueError(f"{where}: expected a supernet, got a file of kind {self.kind}")
        return parse_space(self.space, self.space_name or "unnamed", f"{where}: space")

    def video_space(self, where: str) -> VideoSpace:
        """The space of a supernet of clips."""
        if self.kind != "clip_supernet":
            raise ValueError(f"{where}: expected a supernet of clips, got a file of {self.kind}")
        assert self.clip is not None
        space, num_follow_ups = self.search_space(where), len(self.clip.follow_ups)
        return VideoSpace(self.clip.key_frame, space, self.fusions, num_follow_ups)


def header_from_json(text: str, where: str) -> ModelHeader:
    """Inverse of `ModelHeader.to_json`.

    Keys that came with a newer minor version are ignored, but for those inside architectures.

    Raises:
        ValueError: One line, for another major version and for what is no header.
    """
    if len(text) > MAX_HEADER_BYTES:
        raise ValueError(f"{where}: expected up to {MAX_HEADER_BYTES:,} bytes, got {len(text):,}")
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: not valid JSON: {error}") from None
    if not isinstance(raw, dict):
        raise ValueError(f"{where}: expected an object, got {type(raw).__name__}")
    version = str(raw.get("format_version"))
    if not (parts := re.fullmatch(r"(\d{1,4})\.(\d{1,4})", version)):
        raise ValueError(f"{where}: format_version: expected such as 1.0, got {version}")
    major, minor = (int(part) for part in FORMAT_VERSION.split("."))
    if int(parts[1]) != major:
        raise ValueError(f"{where}: format_version: expected {major}.x, got {version}")
    if int(parts[2]) > minor:
        raw = _known(ModelHeader, raw)
        sections = {"input": InputFormat, "batch_norm": BatchNorm, "provenance": Provenance}
        raw |= {name: _known(kind, raw[name]) for name, kind in sections.items() if name in raw}
    return parse(ModelHeader, raw, where)


def _known(kind: type, raw: Any) -> Any:
    names = {known.name for known in fields(kind)}
    return {key: raw[key] for key in raw if key in names} if isinstance(raw, dict) else raw


def write_model(path: Path, network: nn.Module, header: ModelHeader) -> None:
    """Write a network, in float32, whole or not at all.

    `network` is a `PoseNet`, a `VideoNet` or a `FollowUpNet`, by the header's kind.
    """
    state = zip(_stored_names(network), network.state_dict().values(), strict=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state}
    shared = dict(_shared(tensors)) if header.kind == "clip" else {}
    kept = {name: tensors[name] for name in sorted(tensors.keys() - shared.keys())}
    metadata = {METADATA_KEY: replace(header, shared=shared).to_json()}
    write_atomically(path, save(kept, metadata))


def read_header(path: Path) -> ModelHeader:
    """The header of a model file; no tensor is read."""
    with _opened(path) as file:
        return _header_of(file, path)


def read_model(path: Path) -> tuple[nn.Module, ModelHeader]:
    """The network of a model file, in evaluation mode, on the CPU.

    Names, shapes and types of all tensors are compared with the architecture before the network is
    built.

    Raises:
        ValueError: One line naming the file and what is wrong with it.
    """
    with _opened(path) as file:
        header = _header_of(file, path)
        held = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    held |= {name: held[stored] for name, stored in header.shared.items() if stored in held}
    with torch.device("meta"):
        plan = _build(header)
    names = dict(zip(plan.state_dict(), _stored_names(plan), strict=True))
    check_tensors(held, {names[name]: tensor for name, tensor in plan.state_dict().items()}, path)
    network = _build(header)
    network.load_state_dict({name: held[stored] for name, stored in names.items()})
    return network.eval(), header


def read_network(path: Path) -> tuple[PoseNet, ModelHeader]:
    """`read_model` of a file that must hold a network of images or its supernet."""
    network, header = read_model(path)
    if not isinstance(network, PoseNet):
        raise ValueError(f"{path}: expected a network of images, got a file of {header.kind}")
    return network, header


def read_clip(path: Path) -> tuple[VideoNet, ModelHeader]:
    """`read_model` of a file that must hold the networks of a clip."""
    network, header = read_model(path)
    if not isinstance(network, VideoNet):
        raise ValueError(f"{path}: expected the networks of a clip, got a file of {header.kind}")
    return network, header


def read_clip_supernet(path: Path) -> tuple[FollowUpNet, ModelHeader]:
    """`read_model` of a file that must hold the supernet of follow-up frames."""
    network, header = read_model(path)
    if not isinstance(network, FollowUpNet):
        raise ValueError(f"{path}: expected a supernet of clips, got a file of {header.kind}")
    return network, header


def difference(found: Arch, wanted: Arch) -> str | None:
    """The first place where two archs differ, in words; None where they are equal."""
    for name in (known.name for known in fields(Arch)):
        if getattr(found, name) != getattr(wanted, name):
            return f"{name}: expected {getattr(wanted, name)}, got {getattr(found, name)}"
    return None


def _build(header: ModelHeader) -> nn.Module:
    if header.kind == "clip":
        assert header.clip is not None
        return build_video_net(header.clip, initialise=False)
    assert header.arch is not None
    if header.kind == "clip_supernet":
        fusions = [fusion for fusion in header.fusions if fusion is not None]
        return FollowUpNet(header.arch, fusions, initialise=False)
    return PoseNet(header.arch, initialise=False)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The file, opened by safetensors, whose errors become one line."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: not a readable model file: {error}") from None


def _header_of(file: Any, path: Path) -> ModelHeader:
    metadata = file.metadata() or {}
    if METADATA_KEY not in metadata:
        raise ValueError(f"{path}: expected the metadata key {METADATA_KEY!r}, got none")
    return header_from_json(metadata[METADATA_KEY], str(path))


def check_tensors(found: Mapping[str, object], expected: Mapping[str, Tensor], path: Path) -> None:
    """Raise UserError for the first tensor that is missing, unexpected or of another form."""
    for name in sorted(expected.keys() - found.keys()):
        raise UserError(f"{path}: tensor {name}", "one", "none")
    for name in sorted(found.keys() - expected.keys(), key=str):
        raise UserError(f"{path}: tensor {name}", "none", "one")
    for name, tensor in expected.items():
        # A plan of the network is on the device meta; found values must be real.
        wanted = _form(torch.empty_like(tensor, device="cpu") if tensor.is_meta else tensor)
        if _form(found[name]) != wanted:
            raise UserError(f"{path}: tensor {name}", wanted, _form(found[name]))


def _form(value: object) -> str:
    """Return shape and type of a tensor, in words, and what keeps it from being a weight."""
    if not isinstance(value, Tensor):
        return type(value).__name__
    form = f"{list(value.shape)} of {str(value.dtype).removeprefix('torch.')}"
    if value.layout is not torch.strided:
        return f"{form}, sparse"
    return f"{form}, without values (meta)" if value.is_meta else form


def _stored_names(network: nn.Module) -> Iterator[str]:
    """The name of each tensor of `state_dict` in a file, in its order."""
    for name in network.state_dict():
        parts = re.fullmatch(r"follow_ups\.networks\.(\d+)\.(.*)", name)
        yield f"follow_up.{int(parts[1]) + 1}.{parts[2]}" if parts else name


def _shared(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
    """Tensors of a follow-up frame that an earlier one holds under the same name, and its name."""
    earlier: dict[str, list[str]] = {}
    for name, tensor in tensors.items():
        prefix, _, own_name = name.removeprefix("follow_up.").partition(".")
        if not prefix.isdecimal():
            continue
        alike = earlier.setdefault(own_name, [])
        same = next((other for other in alike if torch.equal(tensors[other], tensor)), None)
        if same is None:
            alike.append(name)
        else:
            yield name, same
