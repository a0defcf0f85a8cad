"""Model files: safetensors with a JSON header, which holds all that is needed to run the weights.

The header is the only metadata key. Nothing in such a file is executed. Tensors of a clip are named
`key_frame.NAME` and `follow_up.N.NAME`, N from 1. Tensors that follow-up frames share are stored
once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from vipnas.arch.clip import KeyFrameRule
from vipnas.arch.image import Arch
from vipnas.errors import UserError
from vipnas.files import check_is_file, write_atomically
from vipnas.models.clipnet import FollowUpNet, VideoNet, build_video_net
from vipnas.models.header import METADATA_KEY, ModelHeader, header_from_json
from vipnas.models.posenet import PoseNet

SUFFIX = ".safetensors"


def write_model(path: Path, network: nn.Module, header: ModelHeader) -> None:
    """Write a network in float32, atomically.

    Args:
        path: The file.
        network: A `PoseNet`, a `VideoNet` or a `FollowUpNet`, by the header's kind.
        header: All else that is needed to run it.
    """
    state = zip(_stored_names(network), network.state_dict().values(), strict=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state}
    shared = dict(_shared(tensors)) if header.kind == "clip" else {}
    kept = {name: tensors[name] for name in sorted(tensors.keys() - shared.keys())}
    metadata = {METADATA_KEY: replace(header, shared=shared).to_json()}
    write_atomically(path, save(kept, metadata))


def read_header(path: Path) -> ModelHeader:
    """Read the header of a model file, without its tensors."""
    with _opened(path) as file:
        return _header_of(file, path)


def read_model(path: Path) -> tuple[nn.Module, ModelHeader]:
    """Read the network of a model file, in evaluation mode, on the CPU.

    Names, shapes and types of all tensors are compared with the architecture before the network is
    built.

    Raises:
        UserError: If the file is not a model file, or its tensors do not match its header.
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
    """Read the file of an image network or supernet; raises UserError for another kind."""
    network, header = read_model(path)
    if not isinstance(network, PoseNet):
        raise UserError(str(path), "a network of images", f"a file of kind {header.kind}")
    return network, header


def write_key_frames(path: Path, rule: KeyFrameRule | None, other: Path) -> None:
    """Write the networks of a clip with another rule for key frames; nothing if it is the same."""
    network, header = read_clip(path)
    if rule != header.key_frames:
        write_model(other, network, replace(header, key_frames=rule))


def read_clip(path: Path) -> tuple[VideoNet, ModelHeader]:
    """Read the file of the networks of a clip; raises UserError for another kind."""
    network, header = read_model(path)
    if not isinstance(network, VideoNet):
        raise UserError(str(path), "the networks of a clip", f"a file of kind {header.kind}")
    return network, header


def read_clip_supernet(path: Path) -> tuple[FollowUpNet, ModelHeader]:
    """Read the file of a supernet of follow-up frames; raises UserError for another kind."""
    network, header = read_model(path)
    if not isinstance(network, FollowUpNet):
        raise UserError(str(path), "a supernet of clips", f"a file of kind {header.kind}")
    return network, header


def difference(found: Arch, wanted: Arch) -> UserError | None:
    """Return the error of the first field in which two architectures differ; None if equal."""
    for name in (known.name for known in fields(Arch)):
        if getattr(found, name) != getattr(wanted, name):
            return UserError(name, str(getattr(wanted, name)), str(getattr(found, name)))
    return None


def _build(header: ModelHeader) -> nn.Module:
    if header.kind == "clip":
        assert header.clip is not None
        return build_video_net(header.clip, initialise=False)
    assert header.arch is not None
    if header.kind == "clip_supernet":
        return FollowUpNet(header.arch, header.fusions, initialise=False)
    return PoseNet(header.arch, initialise=False)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a file by safetensors, whose errors become a UserError."""
    check_is_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise UserError(str(path), "a readable model file", str(error)) from None


def _header_of(file: Any, path: Path) -> ModelHeader:
    metadata = file.metadata() or {}
    if METADATA_KEY not in metadata:
        raise UserError(str(path), f"the metadata key {METADATA_KEY!r}", "none")
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
    """Return shape and type of a tensor as a string, and the reason if it cannot be a weight."""
    if not isinstance(value, Tensor):
        return type(value).__name__
    form = f"{list(value.shape)} of {str(value.dtype).removeprefix('torch.')}"
    if value.layout is not torch.strided:
        return f"{form}, sparse"
    return f"{form}, without values (meta)" if value.is_meta else form


def _stored_names(network: nn.Module) -> Iterator[str]:
    """Yield the name in a file of each tensor of `state_dict`, in its order."""
    for name in network.state_dict():
        parts = re.fullmatch(r"follow_ups\.networks\.(\d+)\.(.*)", name)
        yield f"follow_up.{int(parts[1]) + 1}.{parts[2]}" if parts else name


def _shared(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
    """Yield each tensor that equals that of an earlier follow-up frame, and the earlier name."""
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
