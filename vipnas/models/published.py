"""Weights in the format of the released S-ViPNAS checkpoints (names of mmpose 1.x), there and back bit for bit.

The names follow from `plan(arch)` and one table per family, so that they exist for every arch. What each table says
was read off the two released checkpoints. Their networks never vary some facts that an `Arch` may vary: see
`without_counterpart`.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from vipnas.arch import Arch
from vipnas.files import write_atomically
from vipnas.models.blocks import Deconv, HeatmapConv, InvertedResidualBlock, ResidualBlock, Stem
from vipnas.models.posenet import PoseNet, plan

Templates: TypeAlias = dict[type[nn.Module], dict[str, str]]

# Our name of a module inside its layer -> the published name. `stage` counts from 1, `block` from 0 in its stage,
# `number` from 1 through all blocks; a deconvolution and its norm stand at places 3n and 3n + 1 (3n + 2: ReLU).
_RESIDUAL = "backbone.layer{stage}.{block}"
_INVERTED = "backbone.layer{number}"
_HEAD: Templates = {
    Deconv: {"conv": "head.deconv_layers.{conv}", "norm": "head.deconv_layers.{norm}"},
    HeatmapConv: {"conv": "head.final_layer"},
}
_TEMPLATES: dict[str, Templates] = {
    "residual": {
        Stem: {"conv": "backbone.conv1", "norm": "backbone.bn1"},
        ResidualBlock: {
            "reduce": f"{_RESIDUAL}.conv1",
            "reduce_norm": f"{_RESIDUAL}.bn1",
            "conv": f"{_RESIDUAL}.conv2",
            "conv_norm": f"{_RESIDUAL}.bn2",
            "expand": f"{_RESIDUAL}.conv3",
            "expand_norm": f"{_RESIDUAL}.bn3",
            "attention.mask": f"{_RESIDUAL}.attention.conv_mask",
            "attention.reduce": f"{_RESIDUAL}.attention.channel_add_conv.0",
            "attention.norm": f"{_RESIDUAL}.attention.channel_add_conv.1",
            "attention.expand": f"{_RESIDUAL}.attention.channel_add_conv.3",
            "project": f"{_RESIDUAL}.downsample.0",
            "project_norm": f"{_RESIDUAL}.downsample.1",
        },
        **_HEAD,
    },
    "inverted_residual": {
        Stem: {"conv": "backbone.conv1.conv", "norm": "backbone.conv1.bn"},
        InvertedResidualBlock: {
            "expand": f"{_INVERTED}.expand_conv.conv",
            "expand_norm": f"{_INVERTED}.expand_conv.bn",
            "conv": f"{_INVERTED}.depthwise_conv.conv",
            "conv_norm": f"{_INVERTED}.depthwise_conv.bn",
            "attention.reduce": f"{_INVERTED}.se.conv1.conv",
            "attention.expand": f"{_INVERTED}.se.conv2.conv",
            "project": f"{_INVERTED}.linear_conv.conv",
            "project_norm": f"{_INVERTED}.linear_conv.bn",
        },
        **_HEAD,
    },
}

# mmpose keeps the data set's facts (sigmas, colours) as numpy arrays in its checkpoints: plain numbers, so reading
# them with `weights_only=True` is safe inside `torch.serialization.safe_globals(NUMPY_ARRAYS)`. numpy 1 and 2 differ
# in the module's name.
NUMPY_ARRAYS: list[Any] = [
    *(
        (np._core.multiarray._reconstruct, f"numpy.{core}.multiarray._reconstruct")  # type: ignore[attr-defined]
        for core in ("core", "_core")
    ),
    np.ndarray,
    np.dtype,
    *(type(np.dtype(name)) for name in ("bool", "u1", "i4", "i8", "f2", "f4", "f8")),
]

# mmpose 0.x called the head so; mmpose 1.x may save the normalisation of its input, which is no weight.
_OLD_HEAD, _HEAD_PREFIX = "keypoint_head.", "head."
_NO_WEIGHTS = {"data_preprocessor.mean", "data_preprocessor.std"}
_NAMED_PER_FAULT = 3


def published_state(network: PoseNet) -> dict[str, Tensor]:
    """The network's tensors by published name, in published order; they share the network's memory."""
    modules = dict(_module_names(network.arch))
    state = {}
    for name, tensor in network.state_dict().items():
        module, _, own_name = name.rpartition(".")
        state[f"{modules[module]}.{own_name}"] = tensor
    return state


def save_published(path: Path, network: PoseNet) -> None:
    """Write {"state_dict": ..., "meta": {"vipnas_arch": JSON}}, on the CPU, in the network's own precision."""
    state = {name: tensor.cpu().contiguous() for name, tensor in published_state(network).items()}
    buffer = io.BytesIO()
    torch.save({"state_dict": state, "meta": {"vipnas_arch": network.arch.to_json()}}, buffer)
    write_atomically(path, buffer.getvalue())


def is_published(checkpoint: object) -> bool:
    """Whether what `torch.load` gave has names of this format; `from_published` says what is wrong with them."""
    return any(name.startswith("backbone.") for name in _tensors(checkpoint))


def from_published(checkpoint: object, arch: Arch, where: str) -> PoseNet:
    """The network at `arch`, float32, in evaluation mode, with the weights of a published-format checkpoint.

    `checkpoint` is what `torch.load(..., weights_only=True)` gave: the names themselves or {"state_dict": names}, any
    float precision, names with or without the "module." of DataParallel. Loaded strictly: raises ValueError in one
    line, beginning with `where`, that names tensors which are missing, unexpected or of another shape or kind.
    """
    found = _tensors(checkpoint)
    if not found:
        raise ValueError(f"{where}: not a checkpoint of the published format: it holds no tensors by name")
    network = PoseNet(arch, initialise=False).eval()
    needed = published_state(network)
    if faults := _faults(found, needed):
        raise ValueError(f"{where}: not weights of this arch: {'; '.join(faults)}")
    for name, tensor in needed.items():
        tensor.copy_(found[name])
    return network


def without_counterpart(arch: Arch) -> Iterator[str]:
    """What of this arch the published code (mmpose) cannot build, one line each; nothing where it can.

    Weights of such an arch still have published names, and come back; the published code would refuse some of them,
    or compute something else with them.
    """
    residual = arch.family == "residual"
    if arch.stem.max_pool is not residual:
        always = "always pools" if residual else "never pools"
        yield f"stem.max_pool: found {arch.stem.max_pool}; the published {arch.family} stem {always}"
    if residual and len(arch.stages) > 4:
        yield f"stages: found {len(arch.stages)}; a published residual network has at most 4"
    if residual and any(part.activation != "relu" for part in (arch.stem, *arch.stages)):
        yield "activation: a published residual network has relu only"
    channels = arch.stem.width
    for number, stage in enumerate(arch.stages):
        place = f"stages[{number}]"
        if residual and stage.expand_ratio != 1:
            yield f"{place}.expand_ratio: found {stage.expand_ratio}; published residual blocks have 1"
        if residual and stage.stride == 1 and channels == stage.width:
            yield f"{place}.width: equal to the input's at stride 1, where published code has no projection"
        if not residual and stage.expand_ratio == 1 and channels != stage.width:
            yield f"{place}.expand_ratio: 1 is published only where the width stays that of the input"
        if not residual and stage.stride > 2:
            yield f"{place}.stride: found {stage.stride}; published inverted residuals have 1 or 2"
        channels = stage.width


def _module_names(arch: Arch) -> Iterator[tuple[str, str]]:
    """Our name and the published name of each module that may own tensors."""
    stage = block = number = deconvs = 0
    for layer in plan(arch):
        if layer.first is not None:
            stage, block = (stage + 1, 0) if layer.first else (stage, block + 1)
            number += 1
        place = {"stage": stage, "block": block, "number": number}
        place |= {"conv": 3 * deconvs, "norm": 3 * deconvs + 1}
        for module, template in _TEMPLATES[arch.family][layer.kind].items():
            yield f"layers.{layer.name}.{module}", template.format(**place)
        deconvs += layer.kind is Deconv


def _tensors(checkpoint: object) -> dict[str, Tensor]:
    """The tensors by name as of mmpose 1.x, out of whatever wraps them; nothing where there are none."""
    wrapped = checkpoint.get("state_dict", checkpoint) if isinstance(checkpoint, Mapping) else {}
    if not isinstance(wrapped, Mapping):
        return {}
    tensors = {
        name: tensor
        for name, tensor in wrapped.items()
        if isinstance(name, str) and isinstance(tensor, Tensor)
    }
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    if not any(name.startswith(_HEAD_PREFIX) for name in tensors):
        tensors = {_new_head(name): tensor for name, tensor in tensors.items()}
    return {name: tensor for name, tensor in tensors.items() if name not in _NO_WEIGHTS}


def _new_head(name: str) -> str:
    return _HEAD_PREFIX + name[len(_OLD_HEAD) :] if name.startswith(_OLD_HEAD) else name


def _faults(found: Mapping[str, Tensor], needed: Mapping[str, Tensor]) -> Iterator[str]:
    ...
