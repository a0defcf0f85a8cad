"""The exported networks of a clip are the networks: run along a clip they find the same."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest
import torch
from errors_fixture import refused
from networks_fixture import of_depth_1, randomise_batch_norm

from vipnas.arch.clip import FollowUp, Fusion, VideoArch
from vipnas.deploy.export_clip import export_video
from vipnas.models.clipnet import build_video_net, frames_of, propagate, warp_heatmaps
from vipnas.runtimes.exported_clip import ExportedClip
from vipnas.space.image import SearchSpace

pytestmark = pytest.mark.usefixtures("onnx_operators")


@torch.no_grad()
@pytest.mark.timeout(120)
def test_exported_networks_find_along_a_clip_what_pytorch_finds(
    tiny_space: SearchSpace, tmp_path: Path
) -> None:
    small, large = tiny_space.min_arch(), of_depth_1(tiny_space.max_arch())
    members = (
        FollowUp(small, Fusion(1, "mul")),
        FollowUp(small, None),
        None,
        FollowUp(large, Fusion(3, "cat")),
    )
    network = build_video_net(VideoArch(small, members)).eval()
    randomise_batch_norm(network, seed=0)
    exported = export_video(network, tmp_path / "onnx")
    sessions = [onnxruntime.InferenceSession(item.path.read_bytes()) for item in exported]
    assert [item.path.stem for item in exported] == [
        "key_frame", "follow_up_1", "follow_up_2", "follow_up_4",
    ]  # fmt: skip
    takes = [[item.name for item in session.get_inputs()] for session in sessions]
    assert takes == [["images"], ["images", "before"], ["images"], ["images", "before"]]
    images = torch.randn(1, 5, 3, *small.input_hw)
    warps = torch.eye(2, 3) + 0.05 * torch.randn(1, 4, 2, 3)
    wanted = network(images, warps)
    clip = ExportedClip(tmp_path / "onnx", threads=1)
    assert clip.arch == network.arch
    found = list(propagate(clip.run_frame, frames_of(images, warps)))
    for frame, heatmaps in enumerate(found):
        torch.testing.assert_close(heatmaps, wanted[:, frame], rtol=1e-3, atol=1e-3)
    assert torch.equal(found[3], warp_heatmaps(found[2], warps[:, 2]))
    first, second = exported[1].path, exported[2].path
    second.write_bytes(first.read_bytes())
    with refused(str(tmp_path / "onnx"), "the files of one export", "files of several"):
        ExportedClip(tmp_path / "onnx", threads=1)
    first.unlink()
    with pytest.raises(FileNotFoundError, match="follow_up_1.onnx: no such file"):
        ExportedClip(tmp_path / "onnx", threads=1)
