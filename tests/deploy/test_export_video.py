"""The exported networks of a clip are the networks: run along a clip they find the same."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest
import torch
from networks_fixture import of_depth_1, randomise_batch_norm

from vipnas.arch.clip import FollowUp, Fusion, VideoArch
from vipnas.deploy.export_clip import export_video
from vipnas.models.clipnet import build_video_net, warp_heatmaps
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
        FollowUp(large, Fusion(3, "cat")),
    )
    network = build_video_net(VideoArch(small, members)).eval()
    randomise_batch_norm(network, seed=0)
    exported = export_video(network, tmp_path / "onnx")
    sessions = [onnxruntime.InferenceSession(item.path.read_bytes()) for item in exported]
    assert [item.path.stem for item in exported] == [
        "key_frame", "follow_up_1", "follow_up_2", "follow_up_3",
    ]  # fmt: skip
    images = torch.randn(1, 4, 3, *small.input_hw)
    warps = torch.eye(2, 3) + 0.05 * torch.randn(1, 3, 2, 3)
    wanted = network(images, warps)
    heatmaps = None
    for frame, session in enumerate(sessions):
        inputs = {"images": images[:, frame]}
        if heatmaps is not None:
            inputs["before"] = warp_heatmaps(heatmaps, warps[:, frame - 1])
        taken = {item.name: inputs[item.name].numpy() for item in session.get_inputs()}
        assert ("before" in taken) == (frame in (1, 3))
        heatmaps = torch.from_numpy(session.run(None, taken)[0])
        torch.testing.assert_close(heatmaps, wanted[:, frame], rtol=1e-3, atol=1e-3)
