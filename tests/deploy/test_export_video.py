"""The exported networks of a clip are the networks: run along a clip they find the same."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from errors_fixture import refused
from model_fixture import header_of_arch, save_clip
from networks_fixture import of_one_stage, randomise_batch_norm
from walk_fixture import NUM_FRAMES, two_persons, write_walk

from vipnas.arch.clip import FollowUp, Fusion, KeyFrameRule, VideoArch
from vipnas.cli.main import main
from vipnas.deploy.export import Exported
from vipnas.deploy.export_clip import export_video
from vipnas.deploy.loading import load
from vipnas.deploy.model import PoseModel
from vipnas.models.clipnet import VideoNet, build_video_net
from vipnas.models.propagation import frames_of, propagate, warp_heatmaps
from vipnas.runtimes.exported_clip import ExportedClip
from vipnas.space.image import SearchSpace

# Four networks are exported, on a busy machine for many seconds.
pytestmark = [pytest.mark.timeout(120), pytest.mark.usefixtures("onnx_operators")]

BY_NEED = KeyFrameRule("change", 0.03, 5)


@dataclass(frozen=True)
class Clip:
    """The networks of a clip: their file, and the folder that they are exported to."""

    network: VideoNet
    file: Path
    folder: Path
    exported: list[Exported]


@pytest.fixture(scope="module")
def clip(tiny_space: SearchSpace, tmp_path_factory: pytest.TempPathFactory) -> Clip:
    """A key frame; follow-up frames with each kind of fusion, with none, and without a network."""
    small, other = of_one_stage(tiny_space.min_arch()), of_one_stage(tiny_space.max_arch())
    members = (
        FollowUp(small, Fusion(1, "mul")),
        FollowUp(small, None),
        None,
        FollowUp(other, Fusion(2, "cat")),
    )
    network = build_video_net(VideoArch(small, members)).eval()
    randomise_batch_norm(network, seed=0)
    path = tmp_path_factory.mktemp("clips") / "clip.safetensors"
    file = save_clip(path, network, key_frames=BY_NEED)
    folder = tmp_path_factory.mktemp("exported") / "clip"
    return Clip(network, file, folder, export_video(network, folder, load(file).header))


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_walk(tmp_path_factory.mktemp("videos") / "walk.avi")


@torch.no_grad()
def test_exported_networks_find_along_a_clip_what_pytorch_finds(clip: Clip) -> None:
    sessions = [onnxruntime.InferenceSession(item.path.read_bytes()) for item in clip.exported]
    assert [item.path.stem for item in clip.exported] == [
        "key_frame", "follow_up_1", "follow_up_2", "follow_up_4",
    ]  # fmt: skip
    takes = [[item.name for item in session.get_inputs()] for session in sessions]
    assert takes == [["images"], ["images", "before"], ["images"], ["images", "before"]]
    images = torch.randn(1, 5, 3, *clip.network.key_frame.arch.input_hw)
    warps = torch.eye(2, 3) + 0.05 * torch.randn(1, 4, 2, 3)
    wanted = clip.network(images, warps)
    exported = ExportedClip(clip.folder, threads=1)
    assert exported.arch == clip.network.arch
    found = list(propagate(exported.run_frame, frames_of(images, warps)))
    for frame, heatmaps in enumerate(found):
        torch.testing.assert_close(heatmaps, wanted[:, frame], rtol=1e-3, atol=1e-3)
    assert torch.equal(found[3], warp_heatmaps(found[2], warps[:, 2]))


def test_files_of_several_exports_are_refused(clip: Clip, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(clip.folder, tmp_path / "onnx"))
    first, second = folder / "follow_up_1.onnx", folder / "follow_up_2.onnx"
    second.write_bytes(first.read_bytes())
    with refused(str(folder), "the files of one export", "files of several"):
        ExportedClip(folder, threads=1)
    first.unlink()
    with refused(str(first), "a file", "no such file"):
        ExportedClip(folder, threads=1)


@pytest.mark.parametrize("kind", ["image", "clip"])
def test_exported_models_find_the_same_in_a_video(kind: str, clip: Clip, video: Path) -> None:
    """The file of a key frame is a network of images."""
    native, path = load(clip.file, flip_test=False), clip.folder
    if kind == "image":
        key_frame, path = clip.network.key_frame, clip.folder / "key_frame.onnx"
        header = replace(header_of_arch(key_frame.arch), key_frames=BY_NEED)
        native = PoseModel(key_frame, header, Path("key_frame.safetensors"), flip_test=False)
    exported = load(path, flip_test=False)
    assert not exported.flip_test
    assert exported.header == replace(native.header, shared={})
    pairs = zip(
        native.track(video, two_persons, 2), exported.track(video, two_persons, 2), strict=True
    )
    distances = [np.abs(one.keypoints - other.keypoints).max() for one, other in pairs]
    assert len(distances) == NUM_FRAMES
    assert max(distances) < 0.5


@pytest.mark.slow
def test_exported_frames_of_other_sizes_find_the_same_in_a_video(
    tiny_space: SearchSpace, video: Path, tmp_path: Path
) -> None:
    small = of_one_stage(tiny_space.min_arch())
    half = replace(small, input_hw=(32, 24))
    members = (FollowUp(half, Fusion(2, "mul")), None, FollowUp(small, Fusion(1, "cat")))
    network = build_video_net(VideoArch(small, members)).eval()
    randomise_batch_norm(network, seed=0)
    native = load(save_clip(tmp_path / "clip.safetensors", network), flip_test=False)
    export_video(network, tmp_path / "clip", native.header)
    exported = load(tmp_path / "clip", flip_test=False)
    pairs = zip(
        native.track(video, two_persons, 2), exported.track(video, two_persons, 2), strict=True
    )
    distances = [np.abs(one.keypoints - other.keypoints).max() for one, other in pairs]
    assert len(distances) == NUM_FRAMES and max(distances) < 0.5


def test_clips_and_exported_clips_are_models(
    clip: Clip, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = []
    for model in (clip.file, clip.folder):
        output = ["-o", str(tmp_path / "a.json"), "--json-form", "posetrack18"]
        assert main(["predict", str(model), str(video), *output]) == 0
        capsys.readouterr()
        found.append(json.loads((tmp_path / "a.json").read_text()))
    native, exported = found
    assert len(native["images"]) == NUM_FRAMES
    for one, other in zip(native["annotations"], exported["annotations"], strict=True):
        assert one["keypoints"] == pytest.approx(other["keypoints"], abs=0.5)


def test_info_says_what_an_exported_clip_is(clip: Clip, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(clip.folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["file: folder of an exported clip, format 1.2", "kind: clip"]
    assert "key frames: by need: change above 0.030, or after 5 frames" in lines
