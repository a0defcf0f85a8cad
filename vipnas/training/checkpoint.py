"""Checkpoints: whole or absent, self-describing, loaded without executing anything."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from vipnas.arch.image import Arch
from vipnas.arch.io import arch_from_json
from vipnas.files import write_atomically
from vipnas.models.posenet import PoseNet, extract
from vipnas.models.published import NUMPY_ARRAYS, arch_in, from_published, is_published, kind_of

FORMAT = "vipnas"
VERSION = 1

Value = TypeVar("Value")


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write tensors, numbers, strings, lists and dicts of them, atomically."""
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, "version": VERSION, **content}, buffer)
    write_atomically(path, buffer.getvalue())


def load_file(path: Path) -> Any:
    """Whatever `torch.save` wrote, on the CPU; raises ValueError in one line for anything unsafe or
    broken."""
    if not path.is_file():
        raise ValueError(f"{path}: no such checkpoint")
    try:
        with torch.serialization.safe_globals(NUMPY_ARRAYS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever torch trips over in a file that is no checkpoint
        raise ValueError(f"{path}: not a readable checkpoint: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    """One line of what was found; around it PyTorch gives advice to allow it."""
    if called := re.search(r"GLOBAL (\S+)", str(error)):
        return f"expected tensors, numbers and strings, got a pickle that names {called[1]}"
    _, _, refused = str(error).partition("WeightsUnpickler error: ")
    found = (refused or f"{type(error).__name__}: {error}").strip().splitlines()[0]
    return re.split(r"\. |: $", found)[0]


def load_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint of `save_checkpoint`; raises ValueError for another format or version."""
    return _checked(load_file(path), path)


def _checked(content: Any, path: Path) -> dict[str, Any]:
    if not isinstance(content, dict) or str(content.get("format")) != FORMAT:
        raise ValueError(f"{path}: not a vipnas checkpoint")
    if (version := held(content, "version", int, path)) != VERSION:
        raise ValueError(f"{path}: version: found {version}, allowed is {VERSION}")
    return content


def held(content: Mapping[str, Any], key: str, kind: type[Value], path: Path) -> Value:
    """What a checkpoint holds under a key; raises ValueError where it is of another type."""
    value = content.get(key)
    if not isinstance(value, kind) or isinstance(value, bool):
        found = "none" if value is None else type(value).__name__
        raise ValueError(f"{path}: {key}: expected {kind.__name__}, got {found}")
    return value


def settings_in(content: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The settings that a checkpoint was made with."""
    try:
        settings = json.loads(held(content, "settings", str, path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: settings: not valid JSON: {error}") from None
    return held({"settings": settings}, "settings", dict, path)


def save_network(path: Path, network: PoseNet, **found: Any) -> None:
    """Weights and arch in one file: all that is needed to run the network."""
    content = {"arch": network.arch.to_json(), "network": network.state_dict(), "found": found}
    save_checkpoint(path, content)


def load_weights(path: Path, arch: Arch | None = None) -> PoseNet:
    """The network of a file of weights, ours or in the published format, in evaluation mode.

    The door of every `--weights`. Ours say which arch they are of, those that we wrote in the
    published format too; the released ones need `arch`. With ours, `arch` may be a smaller
    one: the caller sees by `network.arch`.
    """
    content = load_file(path)
    if not is_published(content):
        return _network_of(_checked(content, path), path)
    arch = arch or arch_in(content, str(path))
    if arch is None:
        raise ValueError(f"{path}: published weights do not say their arch: give it with --arch")
    return from_published(content, arch, str(path))


def inherit(weights_file: Path, arch: Arch) -> PoseNet:
    """The network of an arch with the weights that it has in a larger network's file."""
    network = load_weights(weights_file, arch)
    try:
        return network if network.arch == arch else extract(network, arch)
    except (AttributeError, RuntimeError, ValueError, KeyError):
        why = difference(network.arch, arch)
        raise ValueError(f"{weights_file}: does not hold that arch: {why}") from None


def load_network(path: Path, arch: Arch | None = None) -> PoseNet:
    """The network of a file of `save_network`, in evaluation mode, loaded strictly.

    Raises ValueError if the file holds another arch than `arch`, where one is given.
    """
    network = _network_of(load_checkpoint(path), path)
    if arch is not None and network.arch != arch:
        raise ValueError(f"{path}: holds another arch: {difference(network.arch, arch)}")
    return network


def _network_of(content: dict[str, Any], path: Path) -> PoseNet:
    if missing := {"arch", "network"} - content.keys():
        raise ValueError(f"{path}: no file of weights: {', '.join(sorted(missing))} missing")
    arch = arch_from_json(held(content, "arch", str, path), str(path))
    network = PoseNet(arch, initialise=False)
    load_strictly(network, content["network"], path)
    return network.eval()


def load_strictly(network: nn.Module, state: object, path: Path) -> None:
    """Raises ValueError naming the first tensor that is missing, unexpected or no such weight."""
    if not isinstance(state, Mapping):
        raise ValueError(f"{path}: network: expected tensors by name, got {type(state).__name__}")
    expected = network.state_dict()
    for name in sorted(expected.keys() - state.keys()):
        raise ValueError(f"{path}: tensor {name} is missing")
    for name in sorted(state.keys() - expected.keys(), key=str):
        raise ValueError(f"{path}: tensor {name} is not expected")
    for name, tensor in expected.items():
        found = state[name]
        if not isinstance(found, Tensor):
            raise ValueError(f"{path}: {name}: expected a tensor, got {type(found).__name__}")
        if found.shape != tensor.shape:
            raise ValueError(
                f"{path}: tensor {name}: found shape {tuple(found.shape)},"
                f" needed is {tuple(tensor.shape)}"
            )
        if kind_of(found) != kind_of(tensor):
            raise ValueError(
                f"{path}: tensor {name}: expected {kind_of(tensor)}, got {kind_of(found)}"
            )
    network.load_state_dict(state)


def difference(found: Arch, wanted: Arch) -> str:
    """The first place where two archs differ, in words."""
    for name in ("family", "input_hw", "num_keypoints", "stem", "stages", "head"):
        if getattr(found, name) != getattr(wanted, name):
            return f"{name}: found {getattr(found, name)}, wanted {getattr(wanted, name)}"
    return "none"
