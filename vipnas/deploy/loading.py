"""Load a trained network from any kind of file.

    model = vipnas.load("network.safetensors")
    poses = model.predict(image, boxes_xyxy)

Every command that takes a model calls `load`: for model files, supernets, published checkpoints,
exported files and the networks of clips.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from vipnas.arch.codec import CodecName
from vipnas.arch.image import Arch
from vipnas.arch.io import read_arch
from vipnas.config.data import BoxFit
from vipnas.data.codecs.choose import codec_of
from vipnas.data.codecs.heatmap import HeatmapCodec
from vipnas.data.crops.crops import IMAGENET_MEAN_RGB, IMAGENET_STD_RGB
from vipnas.data.crops.geometry import PUBLISHED_FIT
from vipnas.data.formats.skeletons import read_skeleton
from vipnas.deploy.model import PoseModel
from vipnas.errors import UserError, shown
from vipnas.evaluation.evaluator import calibrate_bn
from vipnas.evaluation.subnets import Calibration, take_subnet
from vipnas.models.file import SUFFIX, difference, read_clip, read_header, read_network
from vipnas.models.header import BatchNorm, InputFormat, ModelHeader, header_from_json
from vipnas.models.published import from_published, header_in, is_published
from vipnas.runtimes.exported import (
    HEADER_NOTE,
    ExportedNetwork,
    is_exported,
)
from vipnas.runtimes.exported_clip import ExportedClip
from vipnas.shipped import find_shipped
from vipnas.training.checkpoint import load_file

# The recipe of the published checkpoints, which do not name their skeleton: by number of joints.
PUBLISHED_SKELETONS = {17: "coco_17", 133: "coco_wholebody_133"}


@dataclass(frozen=True)
class Facts:
    """What a file without a header does not contain.

    Attributes:
        codec: The codec of the heatmaps.
        sigma_px: The sigma of the codec, in heatmap pixels.
        skeleton: A shipped name or a YAML file.
        arch: The architecture of a published checkpoint.
        fallback: Ignore the facts if the file contains them, instead of raising an error.
    """

    codec: CodecName | None = None
    sigma_px: float | None = None
    skeleton: str | None = None
    arch: Arch | None = None
    fallback: bool = False

    def check_needless(self, path: Path) -> None:
        """Raise UserError for a fact that is given although the file contains it."""
        if self.fallback:
            return
        for name in ("codec", "sigma_px", "skeleton"):
            if (found := getattr(self, name)) is not None:
                option = f"--{name.replace('_', '-')}"
                hint = "the file contains it"
                raise UserError(f"{path}: {option}", "no such option", shown(found), hint)


def load(
    path: str | Path,
    arch: Arch | str | Path | None = None,
    *,
    calibration: Calibration | None = None,
    facts: Facts | None = None,
    device: str | torch.device = "cpu",
    flip_test: bool = True,
) -> PoseModel:
    """Open a model of images, or of clips.

    Args:
        path: One of: a model file (`.safetensors`) of a network, a clip or a supernet; a published
            checkpoint (`.pth`); an exported file (`.onnx`, `.xml`, `.pt2`); the folder of an
            exported clip.
        arch: An architecture, the file of one or a shipped name. A published checkpoint needs it;
            of a supernet it says which subnet is taken, by default the largest; any other file must
            be of this architecture.
        calibration: Crops that batch norm is measured on: a supernet needs them.
        facts: Skeleton and codec of a file that does not contain them.
        device: Where the network runs; exported files run on the CPU.
        flip_test: See `PoseModel`.

    Raises:
        UserError: The file is not a model, or needs other arguments.
    """
    path, facts = Path(path), facts or Facts()
    if isinstance(arch, (str, Path)):
        arch = read_arch(find_shipped("search_spaces", str(arch), ".json"))
    if path.is_dir():
        model = _load_exported_clip(path, arch, facts)
    elif is_exported(path):
        model = _load_exported(path, arch, facts)
    elif path.suffix == SUFFIX:
        model = _load_model(path, arch, calibration, facts, torch.device(device))
        model.network.to(device)
    else:
        model = _load_published(path, arch, facts)
        model.network.to(device)
    return replace(model, flip_test=flip_test)


def input_format(
    input_hw: tuple[int, int], codec: HeatmapCodec, fit: BoxFit = PUBLISHED_FIT
) -> InputFormat:
    """Return the format of the crops of this version of vipnas."""
    return InputFormat(
        input_hw,
        IMAGENET_MEAN_RGB,
        IMAGENET_STD_RGB,
        fit.padding,
        codec.shift_flipped,
        aspect=fit.aspect,
    )


def _load_model(
    path: Path,
    arch: Arch | None,
    calibration: Calibration | None,
    facts: Facts,
    device: torch.device,
) -> PoseModel:
    header, place = read_header(path), str(path)
    facts.check_needless(path)
    if header.kind == "clip_supernet":
        raise UserError(str(path), "a network of images", f"a file of kind {header.kind}")
    if header.kind == "clip":
        _check_arch(header.key_frame, arch, path)
        return PoseModel(read_clip(path)[0], header, path)
    space = header.search_space(place) if header.kind == "supernet" else None
    arch = arch or header.key_frame
    if space is None:
        _check_arch(header.key_frame, arch, path)
    else:
        space.check_arch(arch, place)
    if space is None and header.batch_norm.calibrated:
        return PoseModel(read_network(path)[0], header, path)
    if calibration is None:
        raise UserError(
            str(path),
            "--experiment FILE (and --data-root DIR)",
            "none",
            f"batch norm of a {header.kind} that is not calibrated is measured on its crops",
        )
    header.skeleton.check_joints(calibration.skeleton, place)
    images = calibration.images()
    _check_size(arch, images, path)
    network = read_network(path)[0].to(device)
    if space is None:
        calibrate_bn(network, images, calibration.batch_size)
    else:
        network = take_subnet(network, space, arch, images, calibration.batch_size, place)
    header = replace(
        header,
        kind="image",
        arch=arch,
        input=replace(header.input, hw=arch.input_hw),
        space=None,
        space_name=None,
        batch_norm=BatchNorm(True, calibration.on),
        metrics={},
    )
    return PoseModel(network, header, path)


def _check_size(arch: Arch, images_N3HW: Tensor, path: Path) -> None:
    """Raise UserError unless crops can be resized to the input of an architecture."""
    (height, width), (crops_h, crops_w) = arch.input_hw, images_N3HW.shape[2:]
    if height > crops_h or height * crops_w != width * crops_h:
        found = (crops_h, crops_w)
        raise UserError(f"{path}: input_hw", f"{found} of the crops", str(arch.input_hw))


def _load_published(path: Path, arch: Arch | None, facts: Facts) -> PoseModel:
    content, place = load_file(path), str(path)
    if not is_published(content):
        raise UserError(
            str(path),
            f"a model file ({SUFFIX}), an exported file or a published checkpoint",
            "another file of torch",
            "weights of vipnas 0.1.0 cannot be read",
        )
    header = header_in(content, place)
    if header is not None:
        facts.check_needless(path)
        _check_arch(header.key_frame, arch, path)
    elif (arch := arch or facts.arch) is None:
        hint = "published weights do not contain their architecture"
        raise UserError(str(path), "--arch FILE", "none", hint)
    else:
        recipe = Facts("quarter", 2.0) if arch.simcc is None else Facts("simcc", 3.0)
        recipe = replace(
            facts,
            codec=facts.codec or recipe.codec,
            sigma_px=facts.sigma_px or recipe.sigma_px,
            skeleton=facts.skeleton or PUBLISHED_SKELETONS.get(arch.num_keypoints),
        )
        header = _header_by_facts(arch, recipe, path)
    return PoseModel(from_published(content, header.key_frame, place), header, path)


def _load_exported(path: Path, arch: Arch | None, facts: Facts) -> PoseModel:
    network = ExportedNetwork(path, torch.get_num_threads())
    note = network.notes.get(HEADER_NOTE)
    _check_arch(network.arch, arch, path)
    if note is None:
        return PoseModel(network, _header_by_facts(network.arch, facts, path), path)
    facts.check_needless(path)
    return PoseModel(network, header_from_json(note, str(path)), path)


def _load_exported_clip(folder: Path, arch: Arch | None, facts: Facts) -> PoseModel:
    network = ExportedClip(folder, torch.get_num_threads())
    _check_arch(network.arch.key_frame, arch, folder)
    note = network.key_frame.notes.get(HEADER_NOTE)
    if note is None:
        header = _header_by_facts(network.arch.key_frame, facts, folder)
    else:
        facts.check_needless(folder)
        header = header_from_json(note, str(folder))
    return PoseModel(network, replace(header, kind="clip", arch=None, clip=network.arch), folder)


def _header_by_facts(arch: Arch, facts: Facts, path: Path) -> ModelHeader:
    """Return the header of a file that contains only its architecture."""
    codec_name, sigma_px, skeleton_name = facts.codec, facts.sigma_px, facts.skeleton
    if codec_name is None or sigma_px is None or skeleton_name is None:
        names = ("codec", "sigma_px", "skeleton")
        needed = next(name for name in names if getattr(facts, name) is None)
        option = f"--{needed.replace('_', '-')}"
        hint = "the file does not contain it; `vipnas convert` writes one that does"
        raise UserError(str(path), option, "none", hint)
    skeleton = read_skeleton(skeleton_name)
    if skeleton.num_joints != arch.num_keypoints:
        raise UserError(
            f"{path}: --skeleton",
            f"one of {arch.num_keypoints} joints",
            f"{skeleton.name} of {skeleton.num_joints}",
        )
    codec = codec_of(arch, codec_name, sigma_px, f"{path}: --codec")
    return ModelHeader(
        kind="image",
        skeleton=skeleton,
        codec=codec_name,
        sigma_px=sigma_px,
        input=input_format(arch.input_hw, codec),
        batch_norm=BatchNorm(True, "the training of the weights"),
        arch=arch,
    )


def _check_arch(found: Arch, wanted: Arch | None, path: Path) -> None:
    if wanted is not None and (error := difference(found, wanted)):
        raise error.inside(f"{path}: arch", ".")
