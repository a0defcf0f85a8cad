"""Start a network from the weights of another one, whose layers may have other sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vipnas.errors import UserError
from vipnas.models.blocks import FixedLinear, HeatmapConv, SimccHead
from vipnas.models.elastic import ElasticLayer
from vipnas.models.posenet import PoseNet
from vipnas.models.slicing import crop


@dataclass
class Transfer:
    """What a network took from another one, by names of tensors.

    Attributes:
        taken: Filled with a tensor of the same size.
        resized: The size of the source's tensor and its own, for a tensor of another size. Where
            it is larger than the source's, the rest keeps its initial values.
        missing: Tensors that the source lacks, which keep their initial values.
        unused: Tensors of the source that the network lacks.
        missing_joints: Joints that the source lacks, which keep their initial values.
        unused_joints: Joints of the source that the network lacks.
    """

    taken: list[str] = field(default_factory=list)
    resized: dict[str, list[list[int]]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    missing_joints: list[str] = field(default_factory=list)
    unused_joints: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        number = len(self.taken) + len(self.resized)
        parts = [f"{number} of {number + len(self.missing)} tensors"]
        if self.resized:
            parts.append(f"{len(self.resized)} of another size")
        if self.unused:
            parts.append(f"{len(self.unused)} of the source unused")
        if self.missing_joints:
            parts.append(f"new joints {', '.join(self.missing_joints)}")
        return ", ".join(parts)


@torch.no_grad()
def transfer(
    source: PoseNet,
    target: PoseNet,
    source_joints: Sequence[str],
    target_joints: Sequence[str],
) -> Transfer:
    """Fill a network with the weights of another one, by names of layers.

    A tensor of another size is sliced as subnets are (`crop`): the smaller one is the leading
    channels and the centre of the kernel of the larger one. Joints are matched by name.

    Args:
        source: Where weights are taken from.
        target: The network to fill, with its initial weights.
        source_joints: Names of the joints of the source, in the order of its heatmaps.
        target_joints: Names of the joints of the target.

    Raises:
        UserError: If the families of blocks differ.
    """
    if source.arch.family != target.arch.family:
        raise UserError("arch.family", target.arch.family, source.arch.family)
    known = [joint for joint in target_joints if joint in source_joints]
    report = Transfer(
        missing_joints=[joint for joint in target_joints if joint not in known],
        unused_joints=[joint for joint in source_joints if joint not in known],
    )
    target_rows = [target_joints.index(joint) for joint in known]
    source_rows = [source_joints.index(joint) for joint in known]
    layers, own = _elastic_layers(source), _elastic_layers(target)
    heads = [layer for layer in target.modules() if isinstance(layer, (HeatmapConv, SimccHead))]
    to_joints = [head.conv for head in heads]
    for name, layer in own.items():
        full = layers.get(name)
        tensors = {} if full is None else dict(full.own_tensors())
        for tensor_name, tensor in layer.own_tensors():
            where = f"{name}.{tensor_name}"
            found = tensors.get(tensor_name)
            if full is None or found is None or _is_of_other_places(layer, found, tensor):
                report.missing.append(where)
            elif layer in to_joints:
                rows = tensor[target_rows]
                _fill(rows, found[source_rows])
                tensor[target_rows] = rows
                _note(report, where, found, tensor)
            else:
                _fill(tensor, found, layer.groups, full.groups)
                _note(report, where, found, tensor)
    report.unused = sorted(_tensor_names(layers) - _tensor_names(own))
    return report


def _is_of_other_places(layer: ElasticLayer, found: Tensor, tensor: Tensor) -> bool:
    """Whether bins and pixels mean other places in a SimCC head, that of another input size."""
    return isinstance(layer, FixedLinear) and found.shape != tensor.shape


def _elastic_layers(network: PoseNet) -> dict[str, ElasticLayer]:
    modules = network.named_modules()
    return {name: layer for name, layer in modules if isinstance(layer, ElasticLayer)}


def _tensor_names(layers: dict[str, ElasticLayer]) -> set[str]:
    return {f"{name}.{own}" for name, layer in layers.items() for own, _ in layer.own_tensors()}


def _note(report: Transfer, name: str, source: Tensor, target: Tensor) -> None:
    if source.shape == target.shape:
        report.taken.append(name)
    else:
        report.resized[name] = [list(source.shape), list(target.shape)]


def _fill(target: Tensor, source: Tensor, groups: int = 1, source_groups: int = 1) -> None:
    """Write into `target` what both tensors share, by the rule of `crop`."""
    shape = tuple(map(min, target.shape, source.shape))
    shared_groups = _shared_groups(target, source, groups, source_groups)
    numbers = torch.arange(target.numel(), device=target.device).view(target.shape)
    places = crop(numbers, shape, shared_groups, groups)
    values = crop(source, shape, shared_groups, source_groups)
    target.view(-1)[places.flatten()] = values.flatten().to(target)


def _shared_groups(target: Tensor, source: Tensor, groups: int, source_groups: int) -> int:
    """Return the groups of the shared rows: those of the tensor with fewer columns in a group."""
    if target.dim() < 2:
        return 1
    finer, number = (target, groups)
    if source.shape[1] < target.shape[1]:
        finer, number = (source, source_groups)
    rows = min(len(target), len(source))
    whole, rest = divmod(rows * number, len(finer))
    return 1 if rest else max(1, whole)
