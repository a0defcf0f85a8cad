"""The networks of a clip without labels find what the online loop finds with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks_fixture import randomise_batch_norm
from torch import Tensor

from vipnas.arch.clip import FollowUp, Fusion, KeyFrameRule, VideoArch
from vipnas.data.codecs.heatmap import HeatmapCodec, make_codec
from vipnas.data.crops.boxes import xyxy_from_xywh
from vipnas.data.crops.images import read_image
from vipnas.data.formats.posetrack import PoseTrackData, Video, read_posetrack
from vipnas.data.formats.skeletons import read_skeleton
from vipnas.deploy.clip_runner import ClipRunner
from vipnas.deploy.detected_boxes import DetectedBoxes
from vipnas.deploy.following import FollowRule, follow
from vipnas.evaluation.key_frames import ClipMemory, KeyFrameSchedule
from vipnas.evaluation.online import OnlineLoop
from vipnas.evaluation.tracker import Tracker
from vipnas.models.clipnet import FollowUpNets, VideoNet, build_video_net
from vipnas.space.image import SearchSpace
from vipnas.synthetic.videos import synthesize_video

SKELETON = read_skeleton("posetrack_18")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PoseTrackData:
    directory = tmp_path_factory.mktemp("videos") / "set"
    synthesize_video(directory, 2, 3, num_frames=8, image_hw=(80, 100), people_per_video=(2, 3))
    return read_posetrack(directory / "annotations", directory, SKELETON)


@pytest.fixture(scope="module")
def network(tiny_space: SearchSpace) -> VideoNet:
    small = tiny_space.with_facts((32, 32), SKELETON.num_joints)
    torch.manual_seed(0)
    members = (
        FollowUp(small.min_arch(), Fusion(1, "cat")),
        FollowUp(small.min_arch(), Fusion(2, "mul")),
    )
    video = build_video_net(VideoArch(small.max_arch(), members))
    randomise_batch_norm(video, seed=0)
    return video.eval()


@pytest.fixture(scope="module")
def codec(network: VideoNet) -> HeatmapCodec:
    arch = network.arch.key_frame
    return make_codec("quarter", arch.input_hw, arch.heatmap_hw)


def always(found: DetectedBoxes) -> Callable[[Any], DetectedBoxes]:
    """A detector that finds the same in every image."""
    return lambda _: found


def run_along(runner: ClipRunner, video: Video) -> dict[int, tuple[np.ndarray, int]]:
    """Joints (K, 3) and distance of each annotation, in the boxes that are annotated."""
    memories: dict[int, ClipMemory | None] = {}
    found = {}
    for frame in video.frames:
        people = [person for person in frame.people if min(person.box_xywh[2:]) > 0]
        before = [memories.get(person.track_id) for person in people]
        boxes = xyxy_from_xywh(np.array([p.box_xywh for p in people]).reshape(-1, 4))
        poses = runner(read_image(frame.image_path), boxes, before)
        joints = np.concatenate((poses.keypoints, poses.scores[..., None]), axis=2)
        for person, distance, joints_K3 in zip(people, poses.distances, joints, strict=True):
            found[person.annotation_id] = joints_K3, int(distance)
        ids = [person.track_id for person in people]
        memories = dict(zip(ids, poses.memories, strict=True))
    return found


def cut_together(first: Video, second: Video) -> Video:
    """Two videos, one after the other: a scene change to people with the same track ids.

    Person 0 is away in the second frame of each scene, and comes back.
    """
    frames = [frame for video in (first, second) for frame in video.frames[:5]]
    for number, frame in enumerate(frames):
        people = tuple(person for person in frame.people if number % 5 != 1 or person.track_id)
        frames[number] = replace(frame, number=number, people=people)
    return Video("cut", tuple(frames))


def test_key_frames_by_need_are_those_of_the_online_loop(
    data: PoseTrackData, network: VideoNet, codec: HeatmapCodec
) -> None:
    rule = KeyFrameRule("change", 0.06, 5)
    expected = OnlineLoop(network, SKELETON, codec, rule=rule)(data.videos)
    runner = replace(ClipRunner.of(network, SKELETON, codec), schedule=KeyFrameSchedule(2, rule))
    found = {
        annotation: pose
        for video in data.videos
        for annotation, pose in run_along(runner, video).items()
    }
    distances = [item.distance for item in expected]
    # Some frames are not needed that the clock would take, and the other way round.
    assert max(distances) > 2 and 0 in distances[5:]
    for item in expected:
        joints_K3, distance = found[item.person.annotation_id]
        assert distance == item.distance
        assert np.abs(joints_K3 - item.keypoints_K3).max() < 1e-4


@pytest.mark.parametrize("num_follow_ups", [0, 1, 2])
@pytest.mark.parametrize("is_cut", [False, True])
def test_with_the_true_boxes_it_is_the_online_loop(
    data: PoseTrackData, network: VideoNet, codec: HeatmapCodec, num_follow_ups: int, is_cut: bool
) -> None:
    videos = (cut_together(*data.videos),) if is_cut else data.videos
    nets = [network.follow_ups[number] for number in range(num_follow_ups)]
    video_net = VideoNet(network.key_frame, FollowUpNets(nets))
    expected = OnlineLoop(video_net, SKELETON, codec)(videos)
    runner = ClipRunner.of(video_net, SKELETON, codec)
    found = {
        annotation: pose
        for video in videos
        for annotation, pose in run_along(runner, video).items()
    }
    assert len(found) == len(expected) > 20
    for item in expected:
        joints_K3, distance = found[item.person.annotation_id]
        assert distance == item.distance
        assert np.abs(joints_K3 - item.keypoints_K3).max() < 1e-4
    assert {distance for _, distance in found.values()} == set(range(num_follow_ups + 1))


def test_with_boxes_of_poses_it_is_the_online_loop(
    data: PoseTrackData, network: VideoNet, codec: HeatmapCodec
) -> None:
    """The detector knows the persons of the first frame, and is not asked again."""
    for video in data.videos:
        expected = OnlineLoop(network, SKELETON, codec, boxes="pose")([video])
        people = video.frames[0].people
        boxes = xyxy_from_xywh(np.array([person.box_xywh for person in people]))
        frames = follow(
            (read_image(frame.image_path) for frame in video.frames),
            ClipRunner.of(network, SKELETON, codec),
            Tracker(SKELETON),
            always(DetectedBoxes(boxes, np.ones(len(boxes), np.float32))),
            FollowRule(detect_every=100, max_similarity=1.0),
        )
        found = list(frames)
        number_of = {frame.image_id: number for number, frame in enumerate(video.frames)}
        # The boxes of an untrained network leave the image after some frames: who is then detected
        # again starts afresh.
        end = next((n for n, frame in enumerate(found) if n and frame.is_detected), len(found))
        id_of = {person.track_id: number for number, person in enumerate(people)}
        compared = set()
        for item in expected:
            number = number_of[item.person.image_id]
            frame, person_id = found[number], id_of.get(item.person.track_id)
            if number < end and person_id in frame.ids:
                row = frame.ids.tolist().index(person_id)
                assert np.abs(frame.keypoints[row] - item.keypoints_K3[:, :2]).max() < 1e-4
                assert np.abs(frame.scores[row] - item.keypoints_K3[:, 2]).max() < 1e-4
                assert frame.is_key_frame[row] == (item.distance == 0)
                compared.add((person_id, number))
        assert compared >= {
            (person, number) for person in range(len(people)) for number in range(4)
        }


def test_persons_of_equal_distance_run_together_and_others_apart(
    network: VideoNet, codec: HeatmapCodec
) -> None:
    calls: list[tuple[int, int, bool]] = []

    def run(distance: int, images: Tensor, before: Tensor | None) -> Tensor:
        calls.append((distance, len(images), before is None))
        return network.run_frame(distance, images, before)

    runner = ClipRunner(run, KeyFrameSchedule(2), SKELETON, codec)
    image = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    boxes = np.array([[10.0, 5, 40, 50], [20, 0, 60, 60], [0, 0, 30, 50]])
    first = runner(image, boxes[:2], (None, None))
    mixed = runner(image, boxes, (*first.memories, None))
    calls_then = runner(image, boxes, mixed.memories)
    assert calls == [(0, 2, True), (0, 1, True), (1, 2, False), (1, 1, False), (2, 2, False)]
    assert calls_then.distances.tolist() == [2, 2, 1]
    # After its last follow-up frame a person has a key frame.
    assert runner(image, boxes, calls_then.memories).distances.tolist() == [0, 0, 2]
    alone = runner(image, boxes[:1], first.memories[:1])
    assert np.abs(alone.keypoints[0] - mixed.keypoints[0]).max() < 1e-4
    nobody = runner(image, np.zeros((0, 4)), ())
    assert nobody.keypoints.shape == (0, 17, 2) and nobody.scores.shape == (0, 17)


def test_heatmaps_that_are_not_finite_are_refused(codec: HeatmapCodec) -> None:
    def run(_: int, images: Tensor, __: Tensor | None) -> Tensor:
        return torch.full((len(images), 17, *codec.heatmap_hw), torch.nan)

    runner = ClipRunner(run, KeyFrameSchedule(0), SKELETON, codec, place="a.safetensors")
    with pytest.raises(FloatingPointError, match="a.safetensors: expected finite heatmaps"):
        runner(np.zeros((9, 9, 3), np.uint8), np.array([[0.0, 0, 9, 9]]), (None,))


def test_the_real_video_is_read_to_its_end(
    vipnas_data: Path, network: VideoNet, codec: HeatmapCodec
) -> None:
    """Whole frames first, then the poses: somebody is shown in every frame."""
    paths = sorted((vipnas_data / "bonn_video" / "060470979").glob("*.jpg"))
    images = (read_image(path) for path in paths[:12])
    runner = ClipRunner.of(network, SKELETON, codec)
    frames = list(follow(images, runner, Tracker(SKELETON)))
    assert [len(frame.ids) for frame in frames] == [1] * 12
