"""Export the networks of a clip, each compared with PyTorch before its file appears."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from vipnas.arch.image import Arch
from vipnas.deploy.export import Exported, export_module, export_onnx, random_images
from vipnas.models.clipnet import FollowUpNet, VideoNet, extract_follow_up
from vipnas.models.file import ModelHeader


def export_video(
    network: VideoNet, folder: Path, header: ModelHeader | None = None
) -> list[Exported]:
    """Write `key_frame.onnx`, and `follow_up_1.onnx` ... one for each follow-up frame.

    All give `heatmaps` (N, K, h, w). The key frame's takes `images` (N, 3, H, W); the others take
    `before` (N, K, h, w) as well, the heatmaps of the frame before warped to this frame's crop
    (`warp_heatmaps`; the warp is not in the file), but for those without a fusion. `header` is that
    of the clip; the key frame's file keeps it as a network of images. Raises ValueError as
    `export_onnx` does.
    """
    if header is not None:
        header = replace(header, kind="image", arch=network.key_frame.arch, clip=None, shared={})
    exported = [export_onnx(network.key_frame, folder / "key_frame.onnx", header)]
    for number in range(len(network.follow_ups.archs)):
        path = folder / f"follow_up_{number + 1}.onnx"
        exported.append(_export_follow_up(network.follow_ups[number], path))
    return exported


def _export_follow_up(network: FollowUpNet, path: Path) -> Exported:
    member = network.follow_up
    copy = extract_follow_up(network, member)
    if member.fusion is None:
        inputs_of = partial(random_images, member.arch)
        return export_module(copy.posenet, inputs_of, path, member.to_json())
    return export_module(copy, partial(_random_inputs, member.arch), path, member.to_json())


def _random_inputs(arch: Arch, batch_size: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(batch_size)
    before = torch.rand(batch_size, arch.num_keypoints, *arch.heatmap_hw, generator=generator)
    return {**random_images(arch, batch_size), "before": before}
