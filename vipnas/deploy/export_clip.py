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
from vipnas.models.header import ModelHeader
from vipnas.runtimes.exported import CLIP_NOTE


def export_video(
    network: VideoNet, folder: Path, header: ModelHeader | None = None
) -> list[Exported]:
    """Write `key_frame.onnx`, and `follow_up_1.onnx` ... one for each follow-up frame.

    A frame without a network has no file: its heatmaps are the warped ones of the frame before.
    All networks take `images` (N, 3, H, W) and return `heatmaps` (N, K, h, w). A follow-up network
    with a fusion also takes `before` (N, K, h, w): the heatmaps of the previous frame, warped to
    the current crop. The warp is not in the file (`warp_heatmaps`).

    Args:
        network: The networks of the clip.
        folder: Where the files go.
        header: That of the clip. The key frame's file keeps it as a network of images.

    Raises:
        UserError: As for `export_onnx`.
    """
    if header is not None:
        header = key_frame_header(header)
    notes = {CLIP_NOTE: network.arch.to_json()}
    exported = [export_onnx(network.key_frame, folder / "key_frame.onnx", header, notes)]
    for number, follow_up in enumerate(network.follow_ups, start=1):
        if follow_up is not None:
            path = folder / f"follow_up_{number}.onnx"
            exported.append(_export_follow_up(follow_up, path))
    return exported


def key_frame_header(header: ModelHeader) -> ModelHeader:
    """Return the header of a clip's key frame as a network of images; others are unchanged."""
    if header.clip is None:
        return header
    return replace(header, kind="image", arch=header.key_frame, clip=None, shared={})


def _export_follow_up(network: FollowUpNet, path: Path) -> Exported:
    follow_up = network.follow_up
    copy = extract_follow_up(network, follow_up)
    if follow_up.fusion is None:
        inputs_of = partial(random_images, follow_up.arch)
        return export_module(copy.posenet, inputs_of, path, follow_up.to_json())
    return export_module(copy, partial(_random_inputs, follow_up.arch), path, follow_up.to_json())


def _random_inputs(arch: Arch, batch_size: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(batch_size)
    before = torch.rand(batch_size, arch.num_keypoints, *arch.heatmap_hw, generator=generator)
    return {**random_images(arch, batch_size), "before": before}
