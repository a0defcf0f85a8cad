"""Load a trained network with all that is needed to run it, from any kind of file.

    model = vipnas.load("network.safetensors")
    poses = model.predict(image, boxes_xyxy)

Every command that takes a model calls `load`: for model files, supernets, published checkpoints and
exported files.

N boxes, K keypoints, H W height and width of the network's input, h w those of its heatmaps.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from vipnas.arch.image import Arch
from vipnas.arch.io import read_arch
from vipnas.arch.skeleton import Skeleton
from vipnas.data.codecs.heatmap import HeatmapCodec, make_codec
from vipnas.data.crops.crops import IMAGENET_MEAN_RGB, IMAGENET_STD_RGB
from vipnas.data.crops.geometry import BOX_PADDING, invert, transform
from vipnas.data.crops.pictures import box_crops
from vipnas.data.formats.skeletons import read_skeleton
from vipnas.deploy.clip_runner import ClipRunner, ImageRunner, Runner
from vipnas.deploy.detectors import Detector
from vipnas.deploy.predictor import DETECT_EVERY, TrackSettings, track
from vipnas.deploy.result import UINT8, PoseResult, checked_boxes, checked_image
from vipnas.errors import UserError, shown
from vipnas.evaluation.evaluator import calibrate_bn, flip_tested, run_contiguous
from vipnas.evaluation.subnets import Calibration, take_subnet
from vipnas.models.clipnet import VideoNet
from vipnas.models.file import (
    SUFFIX,
    BatchNorm,
    CodecName,
    InputFormat,
    ModelHeader,
    difference,
    header_from_json,
    read_clip,
    read_header,
    read_network,
)
from vipnas.models.posenet import PoseNet
from vipnas.models.published import from_published, header_in, is_published
from vipnas.runtimes.exported import (
    HEADER_NOTE,
    HEATMAPS,
    KEYPOINTS,
    NORMALISED,
    PIXELS,
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
        fallback: Ignore the facts if the file contains them, instead of raising an error.
    """

    codec: CodecName | None = None
    sigma_px: float | None = None
    skeleton: str | None = None
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


@dataclass(frozen=True)
class PoseModel:
    """A network and its header.

    `network` takes normalised images (N, 3, H, W) to heatmaps (N, K, h, w). An exported network may
    take uint8 images (N, H, W, 3), and return joints (N, K, 3). The networks of a clip run on
    videos; the key frame's network runs on images. With `flip_test`, heatmaps are the mean over the
    crop and its mirror image: slower, and slightly more accurate.
    """

    network: nn.Module
    header: ModelHeader
    path: Path
    flip_test: bool = True
    batch_size: int = 64

    @property
    def arch(self) -> Arch:
        return self.header.key_frame

    @property
    def skeleton(self) -> Skeleton:
        return self.header.skeleton

    @cached_property
    def codec(self) -> HeatmapCodec:
        header = self.header
        return make_codec(header.codec, header.input.hw, self.arch.heatmap_hw, header.sigma_px)

    def predict(
        self, image: UINT8, boxes_xyxy: ArrayLike | None = None, bgr: bool = False
    ) -> PoseResult:
        """Find one pose in each box of an image.

        Args:
            image: uint8 (H, W, 3), RGB unless `bgr`.
            boxes_xyxy: (N, 4), left, top, right and bottom in pixels; None is one box, the image.
            bgr: The image is in the order of OpenCV.

        Returns:
            Keypoints in pixels of the image, one pose a box, in the order of the boxes.

        Raises:
            UserError: The image or the boxes have another form.
            FloatingPointError: The network's output is not finite.
        """
        image = checked_image(image, bgr)
        boxes_N4 = checked_boxes(boxes_xyxy, image)
        shown = self.header.input
        crops_NHW3, input_from_image_N23 = box_crops(
            image, boxes_N4, shown.hw, self.codec.span_hw, shown.box_padding
        )
        crops_N3HW = torch.from_numpy(crops_NHW3).permute(0, 3, 1, 2)
        found = [self._find(part) for part in crops_N3HW.split(self.batch_size) if len(part)]
        num_joints = self.skeleton.num_joints
        xy_NK2 = torch.cat([torch.empty(0, num_joints, 2), *(xy for xy, _ in found)])
        scores_NK = torch.cat([torch.empty(0, num_joints), *(scores for _, scores in found)])
        keypoints = transform(invert(input_from_image_N23), xy_NK2.double().numpy())
        return PoseResult(keypoints, scores_NK.numpy(), boxes_N4, image, self.skeleton)

    def track(
        self,
        source: str | Path,
        detector: Detector | None = None,
        detect_every: int = DETECT_EVERY,
        smooth: bool = False,
    ) -> Iterator[PoseResult]:
        """Find the poses in each frame of a source, one frame after another.

        Args:
            source: As `open_source` takes it: a video, a camera's number, a stream; images.
            detector: Of persons (`open_detector`). Without one, the whole frame is looked at first,
                and the box then follows the pose.
            detect_every: Frames of a video from one run of the detector to the next.
            smooth: Smooth the joints of each track by a One-Euro filter.

        Returns:
            The poses frame by frame, with track ids in videos. A frame is read when its turn comes.

        Raises:
            UserError: The source cannot be read, or the detector used.
        """
        return track(self, source, detector, TrackSettings(detect_every, smooth))

    def runner(self) -> Runner:
        """Return what finds the poses of a video's frames: by the networks of a clip, key frames
        are scheduled per person; any other network sees every frame by itself."""
        if not isinstance(self.network, (VideoNet, ExportedClip)):
            return ImageRunner(self.predict)
        return ClipRunner(
            self.network.eval().run_frame,
            len(self.network.arch) - 1,
            self.skeleton,
            self.codec,
            next(self.network.parameters()).device,
            self.batch_size,
            self.header.input.box_padding,
            self._normalised,
        )

    def heatmap_network(self) -> nn.Module:
        """The network, from normalised images to heatmaps; raises UserError for a file that has
        another form."""
        if self.header.kind == "clip":
            raise UserError(str(self.path), "a network of images", "a file of kind clip")
        if isinstance(self.network, ExportedNetwork):
            for name, found, needed in (
                ("takes", self.network.takes, NORMALISED),
                ("gives", self.network.gives, HEATMAPS),
            ):
                if found != needed:
                    raise UserError(f"{self.path}: {name}", needed, found)
        return self.network

    def pose_net(self) -> PoseNet:
        """The network in PyTorch; raises UserError for an exported file."""
        if self.header.kind == "clip":
            raise UserError(str(self.path), "a network of images", "a file of kind clip")
        if not isinstance(self.network, PoseNet):
            raise UserError(str(self.path), "weights", "an exported file")
        return self.network

    @torch.no_grad()
    def _find(self, crops_N3HW: Tensor) -> tuple[Tensor, Tensor]:
        """Return joints (N, K, 2) in input pixels, and their scores (N, K)."""
        network = self._image_network.eval()
        crops_N3HW = crops_N3HW.to(next(network.parameters()).device)
        if getattr(network, "gives", HEATMAPS) == KEYPOINTS:
            xy_NK2, scores_NK1 = self._run(crops_N3HW).cpu().split((2, 1), dim=2)
            return _finite(xy_NK2), scores_NK1[..., 0]
        heatmaps_NKhw = (
            flip_tested(
                self._run, crops_N3HW, self.skeleton.flip_order, self.header.input.flip_shift
            )
            if self.flip_test
            else run_contiguous(self._run, crops_N3HW)
        )
        xy_NK2, scores_NK = self.codec.decode(_finite(heatmaps_NKhw))
        return xy_NK2.cpu(), scores_NK.cpu()

    def _run(self, crops_N3HW: Tensor) -> Tensor:
        """Return the network's output for uint8 RGB crops, in the form that it takes."""
        if getattr(self._image_network, "takes", NORMALISED) == PIXELS:
            found: Tensor = self._image_network(crops_N3HW.permute(0, 2, 3, 1))
            return found
        found = self._image_network(self._normalised(crops_N3HW))
        return found

    def _normalised(self, crops_N3HW: Tensor) -> Tensor:
        """Return uint8 crops as the network is shown them, by the header."""
        mean_311, std_311 = (
            (torch.tensor(values, device=crops_N3HW.device) * 255).view(3, 1, 1)
            for values in (self.header.input.mean, self.header.input.std)
        )
        return crops_N3HW.float().sub_(mean_311).div_(std_311)

    @property
    def _image_network(self) -> nn.Module:
        """Return the network of images; for a clip, that of key frames."""
        if isinstance(self.network, (VideoNet, ExportedClip)):
            return self.network.key_frame
        return self.network


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
        path: A model file (`.safetensors`) of a network, a clip or a supernet, a published
            checkpoint (`.pth`), an exported file (`.onnx`, `.xml`, `.pt2`), or the folder of an
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
        return _load_exported_clip(path, arch, facts)
    if is_exported(path):
        return replace(_load_exported(path, arch, facts), flip_test=flip_test)
    if path.suffix == SUFFIX:
        model = _load_model(path, arch, calibration, facts, torch.device(device))
    else:
        model = _load_published(path, arch, facts)
    model.network.to(device)
    return replace(model, flip_test=flip_test)


def input_format(input_hw: tuple[int, int], codec: HeatmapCodec) -> InputFormat:
    """Return the format of the crops of this version of vipnas."""
    return InputFormat(
        input_hw, IMAGENET_MEAN_RGB, IMAGENET_STD_RGB, BOX_PADDING, codec.shift_flipped
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
    if tuple(images.shape[2:]) != header.input.hw:
        found = tuple(images.shape[2:])
        raise UserError(f"{path}: input_hw", f"{found} of the crops", str(header.input.hw))
    network = read_network(path)[0].to(device)
    if space is None:
        calibrate_bn(network, images, calibration.batch_size)
    else:
        network = take_subnet(network, space, arch, images, calibration.batch_size, place)
    header = replace(
        header,
        kind="image",
        arch=arch,
        space=None,
        space_name=None,
        batch_norm=BatchNorm(True, calibration.on),
        metrics={},
    )
    return PoseModel(network, header, path)


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
    elif arch is None:
        hint = "published weights do not contain their architecture"
        raise UserError(str(path), "--arch FILE", "none", hint)
    else:
        skeleton = facts.skeleton or PUBLISHED_SKELETONS.get(arch.num_keypoints)
        recipe = replace(facts, codec=facts.codec or "quarter", sigma_px=facts.sigma_px or 2.0)
        header = _header_by_facts(arch, replace(recipe, skeleton=skeleton), path)
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
    codec = make_codec(codec_name, arch.input_hw, arch.heatmap_hw, sigma_px)
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


def _finite(values: Tensor) -> Tensor:
    if not torch.isfinite(values.sum()):
        raise FloatingPointError("the network's output is not finite")
    return values
