"""Export a network as a page that runs it in a browser, on a camera or on files.

    DIR/index.html ...           the page; any static server shows it
    DIR/network.onnx             uint8 crops to heatmaps
    DIR/follow_up_1.onnx ...     the same of a clip's follow-up frames, which also take the heatmaps
                                 of the previous frame and warp them
    DIR/decoder.onnx             heatmaps to joints, by the codec
    DIR/flip_mean.onnx           heatmaps of crops and of their mirror images to the mean of both
    DIR/model.json               the header of the model, and how the page crops, follows and draws
    DIR/detector.onnx            with a detector
    DIR/onnxruntime-web/         the runtime

Decoding is an exported network, and rules and sizes are read from `model.json`: the page repeats
no number of this package.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vipnas.arch.image import Arch
from vipnas.data.codecs.heatmap import HeatmapCodec
from vipnas.deploy.deployed import CarriedHeatmaps, Decoder, DeployedFollowUp, FlipMean
from vipnas.deploy.detectors import open_detector
from vipnas.deploy.export import Exported, Form, InputsOf, export_module, export_network
from vipnas.deploy.export_clip import key_frame_header
from vipnas.deploy.following import LEAST_SIDE_PX, FollowRule
from vipnas.deploy.model import PoseModel
from vipnas.deploy.onnx_detector import OnnxDetector
from vipnas.deploy.onnxruntime_web import onnxruntime_web
from vipnas.errors import UserError
from vipnas.evaluation.key_frames import VIEW_HW
from vipnas.evaluation.online import LEAST_JOINTS, POSE_BOX_PADDING
from vipnas.evaluation.tracker import Tracker
from vipnas.files import to_plain, write_atomically
from vipnas.models.clipnet import FollowUpNet, VideoNet
from vipnas.models.posenet import PoseNet
from vipnas.runtimes.exported import KEYPOINTS
from vipnas.runtimes.exported_clip import FOLLOW_UP, ExportedClip
from vipnas.viz.pose_style import drawing_facts

PAGE = Path(__file__).resolve().parent / "web"
# The settings of `Tracker` that the page uses; its matching is the default.
TRACKING = (
    "min_similarity",
    "oks_weight",
    "max_gap",
    "max_absence",
    "min_reentry_iou",
    "min_joint_score",
)
# Types of a detector's input that the page can fill.
DETECTOR_TYPES = ("float32", "uint8")


def export_web(
    model: PoseModel,
    folder: Path,
    precision: str = "fp32",
    crops_N3HW: Tensor | None = None,
    detector: str | None = None,
    runtime_folder: Path | None = None,
    say: Callable[[str], object] = lambda text: None,
) -> Exported:
    """Write the page of a model.

    Args:
        model: A network of images or the networks of a clip, in PyTorch.
        folder: Where the page goes; files of the same names are replaced.
        precision: See `Form`; `fp32` for a clip.
        crops_N3HW: See `export_network`.
        detector: Of several persons: a model in ONNX, as `open_detector` takes it. Without one, the
            page follows one person.
        runtime_folder: See `onnxruntime_web`.
        say: Told before a download.

    Returns:
        The network, of a clip that of key frames, compared with PyTorch.

    Raises:
        UserError: The model, the detector or onnxruntime-web cannot be used.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--output {folder}", "a folder", "a file")
    network, follow_ups = _networks(model, precision)
    opened = None if detector is None else _open_detector(detector)
    runtime = onnxruntime_web(runtime_folder, say)
    form = Form(precision=precision, with_preprocessing=True)
    header = key_frame_header(model.header)
    exported = export_network(network, folder / "network.onnx", form, crops_N3HW, header)
    for number, follow_up in enumerate(follow_ups, start=1):
        path = folder / f"{FOLLOW_UP.format(number)}.onnx"
        _export_follow_up(follow_up, model.arch, path, form)
    _export_decoding(model, folder)
    if opened is not None:
        write_atomically(folder / "detector.onnx", opened.path.read_bytes())
    for name, content in runtime.items():
        # Some servers do not know what .mjs is, and browsers then refuse it.
        name = name.replace(".mjs", ".js")
        write_atomically(folder / "onnxruntime-web" / name, content)
    write_atomically(folder / "model.json", json.dumps(page_facts(model, opened), indent=1))
    for path in sorted(PAGE.iterdir()):
        target = "onnxruntime-web/LICENSE" if path.suffix == ".LICENSE" else path.name
        write_atomically(folder / target, path.read_bytes())
    return exported


def _export_decoding(model: PoseModel, folder: Path) -> None:
    """Write what follows the networks: the mean of mirrored crops, and joints of heatmaps."""
    heatmaps_of = partial(_random_heatmaps, model.codec, model.skeleton.num_joints)
    decoder, arch_json = Decoder(model.codec), model.arch.to_json()
    export_module(decoder, heatmaps_of, folder / "decoder.onnx", arch_json, KEYPOINTS)
    mean = FlipMean(model.codec, model.skeleton.flip_order, model.header.input.flip_shift)
    both_of = partial(_both_heatmaps, heatmaps_of)
    export_module(mean, both_of, folder / "flip_mean.onnx", arch_json, "mean")


def page_facts(model: PoseModel, detector: OnnxDetector | None = None) -> dict[str, Any]:
    """Return all that a page needs to know, as plain values for `model.json`."""
    return {
        "header": to_plain(model.header),
        "num_follow_ups": 0 if model.header.clip is None else len(model.header.clip) - 1,
        "key_frame_view_hw": VIEW_HW,
        "span_hw": model.codec.span_hw,
        "stride_xy": model.codec.stride_xy,
        **rules(FollowRule(), Tracker(model.skeleton)),
        "drawing": drawing_facts(model.skeleton),
        "detector": None if detector is None else detector.to_plain(),
    }


def rules(rule: FollowRule, tracker: Tracker) -> dict[str, Any]:
    """Return the rules by which persons are followed, as plain values."""
    return {
        "following": {
            **asdict(rule),
            "least_side_px": LEAST_SIDE_PX,
            "least_joints": LEAST_JOINTS,
            "pose_box_padding": POSE_BOX_PADDING,
        },
        "tracking": {name: getattr(tracker, name) for name in TRACKING},
    }


def _open_detector(spec: str) -> OnnxDetector:
    detector = open_detector(spec)
    if not isinstance(detector, OnnxDetector):
        raise UserError("detector", "a model in ONNX for a page", spec)
    dtype = detector.to_plain()["input"]["dtype"]
    if dtype not in DETECTOR_TYPES:
        place = f"{detector.path}: input"
        raise UserError(place, f"{' or '.join(DETECTOR_TYPES)} for a page", dtype)
    return detector


def _networks(model: PoseModel, precision: str) -> tuple[PoseNet, list[FollowUpNet | None]]:
    """Return the network of images or key frames, and those of a clip's follow-up frames."""
    network = model.network
    if isinstance(network, ExportedClip):
        raise UserError(str(model.path), "weights", "exported files")
    if not isinstance(network, VideoNet):
        return model.pose_net(), []
    if precision != "fp32":
        raise UserError("precision", "fp32 for the networks of a clip", precision)
    sizes = {network.arch.sized_as(number).input_hw for number in range(len(network.arch))}
    if len(sizes) > 1:
        found = ", ".join(str(list(size)) for size in sorted(sizes))
        raise UserError(f"{model.path}: input_hw", "one size of all frames for a page", found)
    return network.key_frame, list(network.follow_ups)


def _export_follow_up(network: FollowUpNet | None, key_frame: Arch, path: Path, form: Form) -> None:
    inputs_of: Callable[[int], dict[str, Tensor]]
    if network is None:
        inputs_of = partial(_random_maps, key_frame)
        export_module(CarriedHeatmaps(), inputs_of, path, key_frame.to_json())
        return
    follow_up = network.follow_up
    if follow_up.fusion is None:
        export_network(network.posenet, path, form)
        return
    inputs_of = partial(_random_inputs, follow_up.arch)
    export_module(DeployedFollowUp(network), inputs_of, path, follow_up.to_json())


def _random_inputs(arch: Arch, batch_size: int) -> dict[str, Tensor]:
    """Return pixels of the current frame, and what comes of the previous one."""
    generator = torch.Generator().manual_seed(batch_size)
    shape = (batch_size, *arch.input_hw, 3)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    return {"images": pixels, **_random_maps(arch, batch_size)}


def _random_maps(arch: Arch, batch_size: int) -> dict[str, Tensor]:
    """Return heatmaps of the previous frame, and warps that move and scale them."""
    generator = torch.Generator().manual_seed(batch_size)
    moved_N23 = 0.1 * torch.randn(batch_size, 2, 3, generator=generator)
    return {
        "before": torch.rand(batch_size, arch.num_keypoints, *arch.heatmap_hw, generator=generator),
        "warps": torch.eye(2, 3) + moved_N23,
    }


def _random_heatmaps(codec: HeatmapCodec, num_joints: int, batch_size: int) -> dict[str, Tensor]:
    """Return heatmaps of random joints, the same for every call."""
    generator = torch.Generator().manual_seed(batch_size)
    height, width = codec.input_hw
    joints_NK3 = torch.rand(batch_size, num_joints, 3, generator=generator)
    joints_NK3[..., 2] += 1
    heatmaps_NKhw, _ = codec.encode(joints_NK3 * torch.tensor((width, height, 1.0)))
    return {"heatmaps": heatmaps_NKhw}


def _both_heatmaps(heatmaps_of: InputsOf, batch_size: int) -> dict[str, Tensor]:
    (heatmaps,) = heatmaps_of(batch_size).values()
    return {"heatmaps": heatmaps, "mirrored": heatmaps.roll(1, dims=1)}
