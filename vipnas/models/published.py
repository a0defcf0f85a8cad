"""Read and write weights in the format of the released S-ViPNAS checkpoints, without loss.

Names are those of mmpose 1.x. They follow from `plan(arch)` and one table per family, so that every
architecture has them. The tables were derived from the two released checkpoints. Some fields of an
`Arch` are fixed in the published code: see `without_counterpart`.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy._core import multiarray
from torch import Tensor, nn

from vipnas.arch.image import Arch
from vipnas.errors import UserError
from vipnas.files import write_atomically
from vipnas.models.blocks import (
    Deconv,
    HeatmapConv,
    InvertedResidualBlock,
    ResidualBlock,
    SimccHead,
    Stem,
)
from vipnas.models.header import METADATA_KEY, ModelHeader, header_from_json
from vipnas.models.posenet import PoseNet, plan

Templates: TypeAlias = dict[type[nn.Module], dict[str, str]]

# Name of a module in its layer -> the published name. `stage` counts from 1, `block` from 0
# in its stage, `number` from 1 through all blocks. Deconvolution n, from 0, has its `conv` at 3n,
# its `norm` at 3n + 1, and at 3n + 2 a ReLU. In a SimCC head, they are a part of their own.
_RESIDUAL = "backbone.layer{stage}.{block}"
_INVERTED = "backbone.layer{number}"
_HEAD: Templates = {
    Deconv: {
        "conv": "head.{deconvs}deconv_layers.{conv}",
        "norm": "head.{deconvs}deconv_layers.{norm}",
    },
    HeatmapConv: {"conv": "head.final_layer"},
    SimccHead: {
        "conv": "head.{deconvs}final_layer",
        "x": "head.mlp_head_x",
        "y": "head.mlp_head_y",
    },
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

# mmpose stores facts of the data set (sigmas, colours) as numpy arrays with the weights, which
# `weights_only=True` refuses. Arrays of plain numbers run no code. Read such a file inside
# `torch.serialization.safe_globals(NUMPY_ARRAYS)`. numpy 1 and 2 differ in the module's name.
NUMPY_ARRAYS: list[Any] = [
    (multiarray._reconstruct, "numpy.core.multiarray._reconstruct"),
    (multiarray._reconstruct, "numpy._core.multiarray._reconstruct"),
    np.ndarray,
    np.dtype,
    *(type(np.dtype(name)) for name in ("bool", "u1", "i4", "i8", "f2", "f4", "f8")),
]

# The head's name in mmpose 0.x; and the normalisation that mmpose 1.x may save with the weights.
_OLD_HEAD = re.compile(r"^keypoint_head\.")
_NO_WEIGHTS = {"data_preprocessor.mean", "data_preprocessor.std"}
_NAMED_PER_FAULT = 3


def published_state(network: PoseNet) -> dict[str, Tensor]:
    """Return the tensors by published name, in published order, sharing the network's memory."""
    modules = dict(_module_names(network.arch))
    state = {}
    for name, tensor in network.state_dict().items():
        module, _, own_name = name.rpartition(".")
        state[f"{modules[module]}.{own_name}"] = tensor
    return state


def save_published(path: Path, network: PoseNet, header: ModelHeader) -> None:
    """Write {"state_dict": ..., "meta": {"vipnas": the header as JSON}}."""
    state = {name: tensor.cpu().contiguous() for name, tensor in published_state(network).items()}
    buffer = io.BytesIO()
    torch.save({"state_dict": state, "meta": {METADATA_KEY: header.to_json()}}, buffer)
    write_atomically(path, buffer.getvalue())


def header_in(checkpoint: object, where: str) -> ModelHeader | None:
    """Return the header that `save_published` wrote; None for the released files."""
    meta = checkpoint.get("meta") if isinstance(checkpoint, Mapping) else None
    noted = meta.get(METADATA_KEY) if isinstance(meta, Mapping) else None
    return header_from_json(noted, where) if isinstance(noted, str) else None


def is_published(checkpoint: object) -> bool:
    """Whether the names in a loaded checkpoint are of this format; loading it may still fail."""
    return any(name.startswith("backbone.") for name in _tensors(checkpoint))


def from_published(checkpoint: object, arch: Arch, where: str) -> PoseNet:
    """Build a network with weights in the published format, in float32 and evaluation mode.

    Args:
        checkpoint: The result of `torch.load(..., weights_only=True)`: tensors by name, or
            {"state_dict": tensors by name}, in any float precision. Names may have the prefix
            "module." of DataParallel.
        arch: The architecture.
        where: The name of the file, for errors.

    Raises:
        UserError: If tensors are missing, unexpected or of another shape.
    """
    found = _tensors(checkpoint)
    if not found:
        raise UserError(where, "a checkpoint of the published format", "no tensors by name")
    network = PoseNet(arch, initialise=False).eval()
    needed = published_state(network)
    if faults := _faults(found, needed):
        raise UserError(where, "weights of this architecture", "; ".join(faults))
    for name, tensor in needed.items():
        tensor.copy_(found[name])
    return network


def without_counterpart(arch: Arch) -> Iterator[str]:
    """Yield one line for each field of an architecture that the published code cannot build.

    Weights of such an architecture can be saved and read back. The published code (mmpose) would
    ignore some of them or compute something else.
    """
    residual = arch.family == "residual"
    if arch.stem.max_pool is not residual:
        yield f"stem.max_pool: expected {residual} in this family, got {arch.stem.max_pool}"
    if residual and len(arch.stages) > 4:
        yield f"stages: expected at most 4 in this family, got {len(arch.stages)}"
    activations = {arch.stem.activation, *(stage.activation for stage in arch.stages)}
    if residual and activations != {"relu"}:
        yield f"activation: expected relu in this family, got {sorted(activations)}"
    if arch.simcc is not None and arch.simcc.kernel_size != 1:
        yield f"simcc.kernel_size: expected 1, got {arch.simcc.kernel_size}"
    channels = arch.stem.width
    for number, stage in enumerate(arch.stages):
        place, same_width = f"stages[{number}]", channels == stage.width
        if residual and stage.expand_ratio != 1:
            yield f"{place}.expand_ratio: expected 1 in this family, got {stage.expand_ratio}"
        if residual and stage.stride == 1 and same_width:
            yield f"{place}.width: expected another than the input's at stride 1, got {stage.width}"
        if not residual and stage.stride > 2:
            yield f"{place}.stride: expected 1 or 2 in this family, got {stage.stride}"
        if not residual and stage.expand_ratio == 1 and not same_width:
            yield f"{place}.expand_ratio: expected above 1 unless the width is the input's, got 1"
        channels = stage.width


def _module_names(arch: Arch) -> Iterator[tuple[str, str]]:
    """Yield the name and the published name of each module that may own tensors."""
    stage = block = number = deconvs = 0
    own_part = "deconv_head." if arch.simcc is not None and arch.head else ""
    for layer in plan(arch):
        if layer.first is not None:
            stage, block = (stage + 1, 0) if layer.first else (stage, block + 1)
            number += 1
        place = {
            "stage": stage,
            "block": block,
            "number": number,
            "deconvs": own_part,
            "conv": 3 * deconvs,
            "norm": 3 * deconvs + 1,
        }
        for module, template in _TEMPLATES[arch.family][layer.kind].items():
            yield f"layers.{layer.name}.{module}", template.format(**place)
        deconvs += layer.kind is Deconv


def _tensors(checkpoint: object) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint by their names in mmpose 1.x; empty if it has none."""
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
    if not any(name.startswith("head.") for name in tensors):
        tensors = {_OLD_HEAD.sub("head.", name): tensor for name, tensor in tensors.items()}
    return {name: tensor for name, tensor in tensors.items() if name not in _NO_WEIGHTS}


def _faults(found: Mapping[str, Tensor], needed: Mapping[str, Tensor]) -> list[str]:
    """Return one entry per kind of difference between two states, with the first few names."""
    wrong = [
        f"{name} (expected {_describe(tensor)}, got {_describe(found[name])})"
        for name, tensor in needed.items()
        if name in found and _describe(found[name]) != _describe(tensor)
    ]
    faults = {
        "missing": [name for name in needed if name not in found],
        "unexpected": [name for name in found if name not in needed],
        "of another shape": wrong,
    }
    return [f"{kind}: {_first_few(names)}" for kind, names in faults.items() if names]


def _describe(tensor: Tensor) -> str:
    """Return shape and kind, which must match; the precision may differ."""
    return f"{list(tensor.shape)} of {kind_of(tensor)}"


def kind_of(tensor: Tensor) -> str:
    """Return the kind of values in a tensor; only floats and integers can be weights."""
    if tensor.is_meta:
        return "no values (meta)"
    if tensor.layout is not torch.strided:
        return "sparse values"
    if tensor.is_quantized or tensor.is_complex():
        return "quantised values" if tensor.is_quantized else "complex numbers"
    return "floats" if tensor.is_floating_point() else "integers"


def _first_few(names: Sequence[str]) -> str:
    more = len(names) - _NAMED_PER_FAULT
    return ", ".join(names[:_NAMED_PER_FAULT]) + (f" and {more} more" if more > 0 else "")
