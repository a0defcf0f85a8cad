"""Files of clips: what they should not hold is one line when they are opened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from training_fixture import supernet_of

from vipnas.arch.clip import FollowUp, Fusion, VideoArch
from vipnas.models.clipnet import FollowUpNet, build_video_net
from vipnas.space.image import SearchSpace
from vipnas.training.checkpoint import load_checkpoint, save_checkpoint
from vipnas.training.clip_checkpoint import (
    load_follow_up_supernet,
    load_video,
    save_follow_up_supernet,
    save_video,
)


def spoil(path: Path, **changes: Any) -> None:
    content = {
        key: value
        for key, value in load_checkpoint(path).items()
        if key not in ("format", "version")
    }
    save_checkpoint(path, {**content, **changes})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"follow_up_arch": 3}, "follow_up_arch: expected str, got int"),
        ({"fusions": 3}, "fusions: expected list, got int"),
        ({"fusions": [{"stage": 0, "operation": "add"}]}, "fusion.stage: found 0, allowed are"),
        ({"network": [1]}, "network: expected tensors by name, got list"),
    ],
)
def test_a_spoilt_supernet_of_follow_up_frames(
    small_space: SearchSpace, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = tmp_path / "supernet.pt"
    save_follow_up_supernet(path, FollowUpNet(small_space.max_arch(), [Fusion(1, "add")]))
    load_follow_up_supernet(path)
    spoil(path, **change)
    with pytest.raises(ValueError, match=f"^{path}.*{message}") as error:
        load_follow_up_supernet(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"video_arch": None}, "video_arch: expected str, got none"),
        ({"video_arch": "{}"}, "key_frame: missing; it must be given"),
        ({"network": {}}, "tensor .* is missing"),
    ],
)
def test_spoilt_networks_of_a_clip(
    small_space: SearchSpace, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path, arch = tmp_path / "video.pt", supernet_of(small_space).arch
    save_video(path, build_video_net(VideoArch(arch, (FollowUp(arch, Fusion(1, "add")),))))
    load_video(path)
    spoil(path, **change)
    with pytest.raises(ValueError, match=f"^{path}.*{message}") as error:
        load_video(path)
    assert "\n" not in str(error.value)
