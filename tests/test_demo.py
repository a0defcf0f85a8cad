"""The demo: both levels on a labelled video."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from model_fixture import header_of_arch, save_network
from networks_fixture import randomise_batch_norm

from vipnas.arch.clip import FollowUp, VideoArch
from vipnas.cli.main import main
from vipnas.errors import UserError
from vipnas.models.clipnet import build_video_net
from vipnas.models.file import write_model
from vipnas.models.posenet import PoseNet
from vipnas.pipeline.demo import GAP_PX, PANEL_PX, TRUTH, ModelPanel, demo, labelled_frames
from vipnas.pipeline.run_folder import RunFolder
from vipnas.space.image import SearchSpace

SEED, NUM_FRAMES = 10, 3


@pytest.fixture(scope="module")
def runs(tiny_space: SearchSpace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The networks of two finished runs, untrained; the clip has a follow-up frame."""
    root, arch = tmp_path_factory.mktemp("runs"), tiny_space.min_arch()
    torch.manual_seed(0)
    network, clip = PoseNet(arch), build_video_net(VideoArch(arch, (FollowUp(arch, None),)))
    for one in (network, clip):
        randomise_batch_norm(one.eval(), seed=0)
    for folder in ("images/retrain", "clips/video/retrain"):
        (root / folder).mkdir(parents=True)
    save_network(RunFolder(root / "images").retrain / "network.safetensors", network)
    header = replace(header_of_arch(arch), kind="clip", arch=None, clip=clip.arch)
    write_model(RunFolder(root / "clips").clips.retrain / "network.safetensors", clip, header)
    return root


def arguments(runs: Path, output: Path) -> list[str]:
    return ["--run", str(runs / "images"), "--video-run", str(runs / "clips"), "-o", str(output)]


def test_the_video_has_all_frames_of_three_panels(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "demo.mp4"
    assert main(["demo", *arguments(runs, output), "--num-frames", str(NUM_FRAMES)]) == 0
    *levels, last = capsys.readouterr().out.splitlines()
    assert [line[:8] for line in levels] == ["demo: S:", "demo: T:"] and str(output) in last
    video = cv2.VideoCapture(str(output))
    pictures = [picture for ok, picture in iter(video.read, (False, None)) if ok]
    assert len(pictures) == NUM_FRAMES
    assert pictures[0].shape[1] == 3 * PANEL_PX + 2 * GAP_PX


def test_levels_are_scored_in_the_labelled_boxes(runs: Path, tmp_path: Path) -> None:
    """The OKS of each pose; labels of joints by name, whatever their order."""
    levels = demo(runs / "images", runs / "clips", tmp_path / "demo.mp4", NUM_FRAMES, SEED)
    assert [len(level.similarities) for level in levels] == [2 * NUM_FRAMES] * 2
    image_model = levels[0].model
    names = image_model.skeleton.joints
    frames = list(labelled_frames(1, SEED, names))
    own = ModelPanel("again", image_model, names)
    own.next(frames[0])
    turned = ModelPanel("turned", image_model, names[::-1])
    turned.next(frames[0]._replace(joints=frames[0].joints[:, ::-1]))
    assert own.similarities == turned.similarities


def test_labels_are_those_of_the_persons() -> None:
    (frame,) = labelled_frames(1, SEED, TRUTH.joints)
    joints, boxes = frame.joints, frame.boxes_xyxy
    assert joints.shape == (2, TRUTH.num_joints, 3) and sorted(frame.ids) == [0, 1]
    low, high = boxes[:, None, :2] - 2, boxes[:, None, 2:] + 2
    seen = joints[..., 2] > 0
    is_inside = ((joints[..., :2] >= low) & (joints[..., :2] <= high)).all(axis=2)
    assert is_inside[seen].all() and np.prod(boxes[:, 2:] - boxes[:, :2], axis=1).min() > 1000


@pytest.mark.parametrize(
    ("missing", "hint"), [("images", "vipnas run quickstart`"), ("clips", "quickstart_video`")]
)
def test_a_missing_run_says_what_to_run(
    missing: str, hint: str, runs: Path, tmp_path: Path
) -> None:
    folders = {name: runs / name for name in ("images", "clips")} | {missing: tmp_path / "none"}
    with pytest.raises(UserError) as caught:
        demo(folders["images"], folders["clips"], tmp_path / "demo.mp4", NUM_FRAMES, SEED)
    assert caught.value.found == "no such file" and hint in str(caught.value.hint)


def test_another_suffix_is_refused(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        demo(runs / "images", runs / "clips", tmp_path / "demo.gif", NUM_FRAMES, SEED)
    assert (caught.value.expected, caught.value.found) == (".mp4 or .webm", ".gif")
