"""The weights that a training starts from: those of another model, as far as they fit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from vipnas.arch.image import Arch
from vipnas.arch.io import read_arch
from vipnas.deploy.loading import PUBLISHED_SKELETONS, Facts, load
from vipnas.errors import UserError
from vipnas.files import check_is_file, write_atomically
from vipnas.models.file import SUFFIX, read_network
from vipnas.models.posenet import PoseNet, insert
from vipnas.models.transfer import transfer
from vipnas.pipeline.experiment import Experiment
from vipnas.settings import content_digest
from vipnas.shipped import find_shipped
from vipnas.space.image import SearchSpace

REPORT = "transfer.json"


@dataclass(frozen=True)
class InitialWeights:
    """A model to take weights from, checked to exist.

    Attributes:
        file: A model file, a supernet or a published checkpoint.
        arch_file: The architecture of a published checkpoint that does not contain it.
    """

    file: Path
    arch_file: Path | None = None

    def settings(self) -> dict[str, Any]:
        """Return what the weights depend on, by content."""
        found = {"init_from": content_digest(self.file)}
        if self.arch_file is not None:
            found["init_arch"] = content_digest(self.arch_file)
        return found


def initial_weights(file: Path, arch: str | None, stage: str) -> InitialWeights:
    """Return the model of a file and the name of its architecture, for a stage.

    Raises:
        UserError: If either does not exist.
    """
    check_is_file(file, "a checkpoint", f"{stage}.init_from: {file}")
    arch_file = None if arch is None else find_shipped("search_spaces", arch, ".json")
    return InitialWeights(file, arch_file)


def start_from(
    experiment: Experiment, network: PoseNet, weights: InitialWeights, directory: Path
) -> None:
    """Fill a network with the weights of a model, as far as they fit.

    What was not taken is listed in `transfer.json` in `directory`.

    Raises:
        UserError: If the file has no weights of images, or another family of blocks.
    """
    source, joints = _open(experiment, weights, network.arch)
    try:
        report = transfer(source, network, joints, experiment.skeleton.joints)
    except UserError as error:
        raise error.inside(str(weights.file)) from None
    if experiment.processes.is_first:
        document = {"file": weights.file.name, **weights.settings(), **asdict(report)}
        write_atomically(directory / REPORT, json.dumps(document, indent=1) + "\n")
        print(f"{directory.name}: {report} from {weights.file}; {directory / REPORT}")


def start_from_images(
    follow_ups: PoseNet,
    images: PoseNet,
    key_frame: PoseNet,
    space: SearchSpace,
    joints: Sequence[str],
) -> None:
    """Fill the supernet of the follow-up frames with the weights of the supernet of images.

    Each architecture of both spaces then has the same weights in both. If the key frame's network
    is in `space`, that of the follow-up networks, but for its input size, its weights replace
    these: it has been trained for longer.

    Raises:
        UserError: If the families of blocks differ.
    """
    transfer(images, follow_ups, joints, joints)
    if replace(key_frame.arch, input_hw=space.input_hw) in space:
        insert(key_frame, follow_ups)


def _open(
    experiment: Experiment, weights: InitialWeights, trained: Arch
) -> tuple[PoseNet, tuple[str, ...]]:
    """Return a network, whose batch norm need not be calibrated, and the names of its joints."""
    if weights.file.suffix == SUFFIX:
        network, header = read_network(weights.file)
        return network, header.skeleton.joints
    arch = trained if weights.arch_file is None else read_arch(weights.arch_file)
    config = experiment.config
    is_known = arch.num_keypoints in PUBLISHED_SKELETONS
    skeleton = None if is_known else config.skeleton
    facts = Facts(config.codec, config.sigma_px, skeleton, arch, fallback=True)
    model = load(weights.file, facts=facts)
    return model.pose_net(), model.skeleton.joints
