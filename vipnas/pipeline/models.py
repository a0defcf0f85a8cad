"""Model files in the hands of an experiment: opened, and compared with what it is about."""

from __future__ import annotations

from pathlib import Path

from vipnas.arch.image import Arch
from vipnas.deploy.model import Facts, PoseModel, load
from vipnas.errors import UserError
from vipnas.evaluation.subnets import Calibration, take_subnet
from vipnas.files import first_difference
from vipnas.models.clipnet import FollowUpNet, VideoNet
from vipnas.models.file import (
    SUFFIX,
    ModelHeader,
    difference,
    read_clip,
    read_clip_supernet,
    read_header,
    read_network,
)
from vipnas.models.posenet import PoseNet
from vipnas.pipeline.experiment import Experiment
from vipnas.space.clip import VideoSpace


def calibration_of(experiment: Experiment) -> Calibration:
    """The crops that batch norm is measured on in this experiment; read when first needed."""
    return Calibration(
        images=lambda: experiment.calibration_images,
        batch_size=experiment.config.evaluation_batch_size,
        skeleton=experiment.skeleton,
        on=f"training crops of {experiment.name}",
    )


def open_model(experiment: Experiment, path: Path, arch_file: Path | None = None) -> PoseModel:
    """`load` for an experiment: of a supernet the subnet of `arch_file`, or the largest, calibrated
    on its crops.

    Raises:
        ValueError: The model is of other joints, of another input or heatmap size, or of another
            geometry or sigma than the experiment.
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
    """What the experiment says of a file that cannot say it itself."""
    config = experiment.config
    return Facts(config.codec, config.sigma_px, config.skeleton, fallback=True)


def check_facts(experiment: Experiment, header: ModelHeader, path: Path) -> None:
    """Raise UserError unless a file is about the joints, sizes and targets of the experiment."""
    header.skeleton.check_joints(experiment.skeleton, str(path))
    largest, config = experiment.space.max_arch(), experiment.config
    is_udp = "udp" if config.codec == "udp" else "no udp"
    for name, found, needed in (
        ("input_hw", header.key_frame.input_hw, largest.input_hw),
        ("heatmap_hw", header.key_frame.heatmap_hw, largest.heatmap_hw),
        ("codec", "udp" if header.codec == "udp" else "no udp", is_udp),
        ("sigma_px", header.sigma_px, config.sigma_px),
    ):
        if found != needed:
            raise UserError(f"{path}: {name}", f"the experiment's {needed}", str(found))


def open_network(experiment: Experiment, path: Path, arch: Arch | None = None) -> PoseNet:
    """A calibrated network that the experiment trained; of this arch, where one is given."""
    network, header = read_network(path)
    if header.kind != "image":
        raise ValueError(f"{path}: expected one network, got a file of kind {header.kind}")
    if arch is not None and (place := difference(network.arch, arch)):
        raise ValueError(f"{path}: holds another arch: {place}")
    check_facts(experiment, header, path)
    return network.to(experiment.device)


def open_supernet(experiment: Experiment, path: Path) -> PoseNet:
    """The supernet of the experiment's space."""
    header, largest = read_header(path), experiment.space.max_arch()
    if header.kind != "supernet":
        raise ValueError(f"{path}: expected a supernet, got a file of kind {header.kind}")
    if place := difference(header.key_frame, largest):
        raise ValueError(f"{path}: holds another arch: {place}")
    check_facts(experiment, header, path)
    if other := first_difference(header.space, experiment.space.to_plain()):
        place, found, needed = other
        raise ValueError(f"{path}: space.{place}: expected {needed}, got {found}")
    return read_network(path)[0].to(experiment.device)


def initial_network(experiment: Experiment, path: Path, arch: Arch) -> PoseNet:
    """The network that a training begins with: the subnet of a supernet, not calibrated, or the
    very arch of any other file of weights."""
    if path.suffix != SUFFIX:
        model = load(path, arch, facts=_facts_of(experiment))
        model.skeleton.check_joints(experiment.skeleton, str(path))
        return model.pose_net()
    network, header = read_network(path)
    header.skeleton.check_joints(experiment.skeleton, str(path))
    if header.kind == "supernet":
        space = header.search_space(str(path))
        return take_subnet(network, space, arch, None, 1, str(path))
    if place := difference(network.arch, arch):
        raise ValueError(f"{path}: holds another arch: {place}")
    return network


def open_clip(experiment: Experiment, path: Path) -> VideoNet:
    """The networks of a clip."""
    network, header = read_clip(path)
    check_facts(experiment, header, path)
    return network


def open_clip_supernet(experiment: Experiment, path: Path, space: VideoSpace) -> FollowUpNet:
    """The supernet of the follow-up frames, on the experiment's device; it must be of this space,
    key frame included."""
    supernet, header = read_clip_supernet(path)
    check_facts(experiment, header, path)
    if header.video_space(str(path)) != space:
        raise ValueError(f"{path}: space: expected that of the experiment, got another")
    return supernet.to(experiment.device)
