"""Open the model files of an experiment, and check that they match it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from vipnas.arch.image import Arch
from vipnas.deploy.loading import Facts, load
from vipnas.deploy.model import PoseModel
from vipnas.errors import UserError
from vipnas.evaluation.subnets import Calibration
from vipnas.files import first_difference
from vipnas.models.clipnet import ClipNetworks, FollowUpNet
from vipnas.models.file import (
    difference,
    read_clip_supernet,
    read_header,
    read_network,
)
from vipnas.models.header import ModelHeader
from vipnas.models.posenet import PoseNet
from vipnas.pipeline.experiment import Experiment
from vipnas.space.clip import VideoSpace
from vipnas.space.image import SearchSpace


@contextmanager
def finite_heatmaps_of(path: Path) -> Iterator[None]:
    """Name the file of a model whose heatmaps turn out not to be finite, in a UserError."""
    try:
        yield
    except FloatingPointError:
        raise UserError(str(path), "finite heatmaps", "others") from None


def calibration_of(experiment: Experiment) -> Calibration:
    """Return the crops that calibrate batch norm in this experiment; they are read lazily."""
    return Calibration(
        images=lambda: experiment.calibration_images,
        batch_size=experiment.config.evaluation_batch_size,
        skeleton=experiment.skeleton,
        on=f"training crops of {experiment.name}",
    )


def open_model(experiment: Experiment, path: Path, arch_file: Path | None = None) -> PoseModel:
    """Load a model for an experiment.

    Args:
        experiment: The experiment, whose crops calibrate the subnet of a supernet.
        path: The model file.
        arch_file: The subnet of a supernet; the largest by default.

    Raises:
        UserError: If joints, input or heatmap size, codec or sigma differ from the experiment.
    """
    model = load(
        path,
        arch_file,
        calibration=calibration_of(experiment),
        facts=_facts_of(experiment),
        device=experiment.device,
    )
    check_facts(experiment, model.header, path)
    return model


def _facts_of(experiment: Experiment) -> Facts:
    """Return the facts of the experiment, for files without them."""
    config = experiment.config
    return Facts(config.codec, config.sigma_px, config.skeleton, fallback=True)


def check_facts(
    experiment: Experiment, header: ModelHeader, path: Path, space: SearchSpace | None = None
) -> None:
    """Raise UserError unless a file has the joints, targets and an input size of the experiment."""
    header.skeleton.check_joints(experiment.skeleton, str(path))
    space, config = space or experiment.space, experiment.config
    largest = space.max_arch()
    if header.key_frame.input_hw in space.inputs_hw:
        largest = replace(largest, input_hw=header.key_frame.input_hw)
    is_udp = "udp" if config.codec == "udp" else "no udp"
    for name, found, needed in (
        ("input_hw", header.key_frame.input_hw, largest.input_hw),
        ("heatmap_hw", header.key_frame.heatmap_hw, largest.heatmap_hw),
        ("codec", "udp" if header.codec == "udp" else "no udp", is_udp),
        ("sigma_px", header.sigma_px, config.sigma_px),
        ("box.padding", header.input.box_padding, config.box.padding),
        ("box.aspect", header.input.aspect, config.box.aspect),
    ):
        if found != needed:
            raise UserError(f"{path}: {name}", f"the experiment's {needed}", str(found))


def open_network(experiment: Experiment, path: Path, arch: Arch | None = None) -> PoseNet:
    """Open a calibrated network that the experiment trained.

    Raises:
        UserError: If the file does not match the experiment, or `arch` if it is given.
    """
    network, header = read_network(path)
    if header.kind != "image":
        raise UserError(str(path), "one network", f"a file of kind {header.kind}")
    if arch is not None and (error := difference(network.arch, arch)):
        raise error.inside(f"{path}: arch", ".")
    check_facts(experiment, header, path)
    return network.to(experiment.device)


def open_supernet(experiment: Experiment, path: Path) -> PoseNet:
    """Open a supernet of the experiment's space, which may have one of several input sizes only."""
    header, space = read_header(path), experiment.space
    if header.kind != "supernet":
        raise UserError(str(path), "a supernet", f"a file of kind {header.kind}")
    sizes = header.search_space(str(path)).inputs_hw
    if not space.has_sizes and space.input_hw in sizes:
        space = space.with_facts(sizes)  # all sizes share the weights
    if error := difference(header.key_frame, space.max_arch()):
        raise error.inside(f"{path}: arch", ".")
    check_facts(experiment, header, path, space)
    _check_space({"space": header.space}, {"space": space.to_plain()}, path)
    return read_network(path)[0].to(experiment.device)


def check_subnet(experiment: Experiment, path: Path, arch: Arch) -> None:
    """Raise UserError unless a supernet has the experiment's joints and offers an architecture."""
    header, place = read_header(path), str(path)
    header.skeleton.check_joints(experiment.skeleton, place)
    header.search_space(place).check_arch(arch, place)


def open_clip(experiment: Experiment, path: Path) -> tuple[ClipNetworks, ModelHeader]:
    """Open the networks of a clip: a model file, or the folder of an exported clip."""
    model = load(path)
    if not isinstance(model.network, ClipNetworks):
        raise UserError(str(path), "the networks of a clip", f"a file of kind {model.header.kind}")
    check_facts(experiment, model.header, path)
    return model.network, model.header


def open_clip_supernet(experiment: Experiment, path: Path, space: VideoSpace) -> FollowUpNet:
    """Open the supernet of the follow-up frames, on the experiment's device.

    Raises:
        UserError: If its space, which includes the key frame, is another.
    """
    supernet, header = read_clip_supernet(path)
    check_facts(experiment, header, path)
    _check_space(header.video_space(str(path)).to_plain(), space.to_plain(), path)
    return supernet.to(experiment.device)


def _check_space(found: dict[str, Any], needed: dict[str, Any], path: Path) -> None:
    """Raise UserError for the first place in which the space of a supernet is another."""
    if other := first_difference(found, needed):
        place, before, now = other
        raise UserError(f"{path}: {place}", str(now), str(before))
