"""Whole videos in online order: T = 0 is the network of images, clips side by side are clips one
after another, people come and go, boxes follow."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from networks_fixture import randomise_batch_norm
from video_fixture import video_space_of, video_supernet

from vipnas.arch.clip import FollowUp, Fusion, KeyFrameRule, VideoArch
from vipnas.data.codecs.heatmap import HeatmapCodec, make_codec
from vipnas.data.crops.clips import clips_of, fixed_clips
from vipnas.data.crops.crops import fixed_crops
from vipnas.data.formats.posetrack import Frame, PoseTrackData, TrackedPerson, Video, read_posetrack
from vipnas.data.formats.skeletons import read_skeleton
from vipnas.evaluation.clips import (
    ClipEvaluator,
    InheritedClipScore,
    calibrate_along,
    with_key_frames,
)
from vipnas.evaluation.evaluator import Evaluator
from vipnas.evaluation.oks import mean_similarity
from vipnas.evaluation.online import OnlineLoop, box_of_pose, tracklets
from vipnas.models.blocks import Stem
from vipnas.models.clipnet import FollowUpNets, VideoNet, build_video_net, extract_video
from vipnas.space.image import SearchSpace
from vipnas.synthetic.videos import synthesize_video

SKELETON = read_skeleton("posetrack_18")
T = 2


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PoseTrackData:
    directory = tmp_path_factory.mktemp("videos") / "set"
    synthesize_video(directory, 2, 0, num_frames=7, image_hw=(80, 100), people_per_video=(1, 2))
    return read_posetrack(directory / "annotations", directory, SKELETON)


@pytest.fixture(scope="module")
def small(tiny_space: SearchSpace) -> SearchSpace:
    return tiny_space.with_facts((32, 32), SKELETON.num_joints)


@pytest.fixture(scope="module")
def codec(small: SearchSpace) -> HeatmapCodec:
    arch = small.min_arch()
    return make_codec("quarter", arch.input_hw, arch.heatmap_hw)


@pytest.fixture(scope="module")
def network(small: SearchSpace) -> VideoNet:
    torch.manual_seed(0)
    largest, smallest = small.max_arch(), small.min_arch()
    members = (FollowUp(smallest, Fusion(1, "cat")), FollowUp(smallest, Fusion(2, "mul")))
    video = build_video_net(VideoArch(largest, members))
    randomise_batch_norm(video, seed=0)
    return video.eval()


def test_without_follow_up_frames_it_is_the_evaluation_of_images(
    data: PoseTrackData, network: VideoNet, codec: HeatmapCodec, small: SearchSpace
) -> None:
    alone = VideoNet(network.key_frame, FollowUpNets([]))
    found = OnlineLoop(alone, SKELETON, codec)(data.videos)
    crops = fixed_crops(data.persons, SKELETON, small.input_hw)
    evaluator = Evaluator(crops, data.ground_truth, SKELETON, codec, flip_test=False)
    expected: dict[int, list[list[float]]] = {}
    for result in evaluator.results(network.key_frame):
        expected.setdefault(result["image_id"], []).append(result["keypoints"])
    assert sum(map(len, expected.values())) == len(found) > 0
    for item in found:
        keypoints = item.result()["keypoints"]
        nearest = min(
            np.abs(np.subtract(keypoints, other)).max() for other in expected[item.person.image_id]
        )
        assert item.distance == 0 and nearest < 1e-3


@pytest.mark.parametrize("last", ["network", "none", "smaller", "larger"])
def test_clips_side_by_side_find_what_the_online_loop_finds(
    data: PoseTrackData, network: VideoNet, codec: HeatmapCodec, last: str
) -> None:
    if last == "none":
        network = VideoNet(network.key_frame, FollowUpNets([network.follow_ups[0], None]))
    if last in ("smaller", "larger"):
        network, codec = resized(network, 1, (16, 16) if last == "smaller" else (64, 64), codec)
    clips = clips_of(data, T, stride=T + 1)
    keyed = with_key_frames(fixed_clips(clips, SKELETON, codec), network.key_frame, 3)
    evaluator = ClipEvaluator(keyed, data.ground_truth, SKELETON, codec, batch_size=3)
    found = OnlineLoop(network, SKELETON, codec, batch_size=2)(data.videos)
    online = {item.person.annotation_id: item for item in found}
    results = evaluator.results(network.follow_ups)
    persons = [clip.people[number] for number in range(T + 1) for clip in clips]
    assert len(results) == len(persons) > T
    for person, result in zip(persons, results, strict=True):
        other = online[person.annotation_id].result()
        assert np.allclose(result["keypoints"], other["keypoints"], atol=1e-3)
        assert result["image_id"] == other["image_id"]
    assert {item.distance for item in found} == {0, 1, 2}


def resized(
    network: VideoNet, number: int, input_hw: tuple[int, int], codec: HeatmapCodec
) -> tuple[VideoNet, HeatmapCodec]:
    """Return the clip with one frame of another size, and the codec of its crops."""
    members = list(network.arch.follow_ups)
    member = members[number]
    assert member is not None
    members[number] = replace(member, arch=replace(member.arch, input_hw=input_hw))
    other = build_video_net(replace(network.arch, follow_ups=tuple(members))).eval()
    other.load_state_dict(network.state_dict())
    return other, codec.at(other.arch.largest)


def test_key_frames_by_need_are_a_clock_where_the_need_says_so(
    data: PoseTrackData, network: VideoNet, codec: HeatmapCodec
) -> None:
    """Never needed: the clock of longer clips; always: every frame a key frame."""
    rules = {
        KeyFrameRule("score", 1.0, 7): network.repeated(6),
        KeyFrameRule("change", 1.0, T + 1): network,
        KeyFrameRule("change", 0.0, 7): network.repeated(0),
    }
    for rule, other in rules.items():
        loop = OnlineLoop(network, SKELETON, codec, rule=rule)
        found, expected = loop(data.videos), OnlineLoop(other, SKELETON, codec)(data.videos)
        assert [pose.distance for pose in found] == [pose.distance for pose in expected]
        for one, same in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one.keypoints_K3, same.keypoints_K3)
    assert sorted(loop.distances(data.videos)) == sorted(pose.distance for pose in found)


def test_calibration_gives_each_frame_the_statistics_of_its_own_inputs(
    data: PoseTrackData, network: VideoNet, codec: HeatmapCodec
) -> None:
    """Of the last frame's first batch norm, measured by hand on what its network is given."""
    clips = clips_of(data, T, stride=T + 1)
    keyed = with_key_frames(fixed_clips(clips, SKELETON, codec), network.key_frame, 64)
    other = build_video_net(network.arch)
    other.load_state_dict(network.state_dict())
    calibrate_along(other.follow_ups, keyed, 64)
    before, after = (first_norm(video) for video in (network, other))
    seen: list[torch.Tensor] = []
    hook = after.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    ClipEvaluator(keyed, data.ground_truth, SKELETON, codec).results(other.follow_ups)
    hook.remove()
    mean = torch.cat(seen).mean(dim=(0, 2, 3))
    assert before.running_mean is not None
    torch.testing.assert_close(after.running_mean, mean, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(before.running_mean, mean, atol=1e-2)


def first_norm(network: VideoNet) -> torch.nn.BatchNorm2d:
    follow_up = network.follow_ups[1]
    assert follow_up is not None
    stem = follow_up.posenet.layers["stem"]
    assert isinstance(stem, Stem)
    return stem.norm


def frame(number: int, tracks: tuple[int, ...], labelled: bool = True) -> Frame:
    people = tuple(
        TrackedPerson(
            annotation_id=100 * number + track,
            image_id=number,
            image_path=Path("none.jpg"),
            box_xywh=(0.0, 0.0, 10.0, 10.0),
            area=50.0,
            keypoints_K3=np.ones((SKELETON.num_joints, 3), np.float32),
            track_id=track,
        )
        for track in tracks
    )
    return Frame(number, number, Path("none.jpg"), (50, 50), labelled, people)


def test_appearances_by_hand() -> None:
    """Track 1 leaves and comes back; 2 stays over a frame without labels, which ends nothing but is
    not the last; the numbers jump from 5 to 8."""
    video = Video(
        "v",
        (
            frame(1, (1, 2)),
            frame(2, (1, 2)),
            frame(3, (2,)),
            frame(4, (), labelled=False),
            frame(5, (1, 2)),
            frame(8, (1, 2)),
            frame(9, (), labelled=False),
        ),
    )
    found = {
        (detections[0].person.track_id, tuple(detection.frame.number for detection in detections))
        for detections in tracklets(video)
        if detections[0].person is not None
    }
    assert found == {
        (1, (1, 2)),
        (1, (5,)),
        (1, (8,)),
        (2, (1, 2, 3, 4, 5)),
        (2, (8,)),
    }


def test_box_of_a_pose_by_hand() -> None:
    box = (1.0, 2.0, 3.0, 4.0)
    joints = np.array([[0, 0, 0.9], [40, 0, 0.9], [0, 80, 0.9], [40, 80, 0.9], [500, 500, 0.1]])
    xy, scores = joints[:, :2], joints[:, 2]
    assert box_of_pose(box, xy, scores) == pytest.approx((-5, -10, 50, 100))
    scores[0] = 0.1
    assert box_of_pose(box, xy, scores) == box
    assert box_of_pose(box, xy, scores, min_score=0.05) != box
    # All joints of a small skeleton are enough.
    assert box_of_pose(box, xy[1:4], scores[1:4]) == pytest.approx((-5, -10, 50, 100))


def test_boxes_of_poses_move_and_the_first_is_annotated(
    data: PoseTrackData, network: VideoNet, codec: HeatmapCodec
) -> None:
    found = OnlineLoop(network, SKELETON, codec, boxes="pose")(data.videos)
    firsts = {
        detections[0].person.annotation_id
        for video in data.videos
        for detections in tracklets(video)
        if detections[0].person is not None
    }
    kept = [item for item in found if item.box_xywh == item.person.box_xywh]
    assert {item.person.annotation_id for item in kept} >= firsts
    assert len(kept) < len(found)


def test_the_order_and_the_company_change_nothing(
    data: PoseTrackData, network: VideoNet, codec: HeatmapCodec
) -> None:
    loop = OnlineLoop(network, SKELETON, codec, boxes="pose")
    together = {item.person.annotation_id: item for item in loop(data.videos)}
    for video in data.videos:
        for item in replace(loop, batch_size=1)((video,)):
            other = together[item.person.annotation_id]
            assert np.allclose(item.keypoints_K3, other.keypoints_K3, atol=1e-3)


def test_a_real_video_with_people_who_come_and_go(
    vipnas_data: Path, network: VideoNet, codec: HeatmapCodec
) -> None:
    """Everybody is found in every frame in which they are labelled, and starts with a key frame."""
    directory = vipnas_data / "bonn_video"
    real = read_posetrack(directory / "060470979.json", directory, SKELETON)
    (video,) = real.videos
    # Track 1 is away in the frames 11 to 13, and so comes into view twice.
    frames = tuple(
        replace(frame, people=tuple(p for p in frame.people if p.track_id != 1))
        if 11 <= frame.number <= 13
        else frame
        for frame in video.frames
    )
    found = OnlineLoop(network, SKELETON, codec)((replace(video, frames=frames),))
    people = [person.annotation_id for frame in frames for person in frame.people]
    assert sorted(item.person.annotation_id for item in found) == sorted(people)
    number_of = {frame.image_id: frame.number for frame in frames}
    for item in found:
        start = 14 if item.person.track_id == 1 and number_of[item.person.image_id] > 13 else 1
        assert item.distance == (number_of[item.person.image_id] - start) % (T + 1)


def test_a_score_is_that_of_the_extracted_and_calibrated_networks(
    data: PoseTrackData, small: SearchSpace, codec: HeatmapCodec
) -> None:
    """And of the arch alone: asked for again after another, it is the same."""
    torch.manual_seed(0)
    key_frame, supernet = video_supernet(small)
    for network in (key_frame, supernet):
        randomise_batch_norm(network.eval(), seed=1)
    keyed = with_key_frames(
        fixed_clips(clips_of(data, T, stride=T + 1), SKELETON, codec), key_frame, 64
    )
    evaluator = ClipEvaluator(keyed, data.ground_truth, SKELETON, codec)
    space = video_space_of(small, T, warp=True)
    score = InheritedClipScore(supernet, space, evaluator, keyed)
    first, second = (space.sample(random.Random(seed)) for seed in range(2))
    second = replace(second, follow_ups=(None, second.follow_ups[1]))
    found = evaluator.results(score.network(first))
    score(second)
    assert found == evaluator.results(score.network(first))
    plain = extract_video(key_frame, supernet, first).follow_ups
    calibrate_along(plain, keyed, 32)
    for result, other in zip(found, evaluator.results(plain), strict=True):
        assert np.allclose(result["keypoints"], other["keypoints"], atol=0.1)


def test_a_clip_scores_the_mean_similarity_of_its_frames_and_stops_early(
    data: PoseTrackData, small: SearchSpace, codec: HeatmapCodec
) -> None:
    torch.manual_seed(0)
    key_frame, supernet = video_supernet(small)
    clips = fixed_clips(clips_of(data, T, stride=T + 1), SKELETON, codec)
    keyed = with_key_frames(clips, key_frame.eval(), 64)
    evaluator = ClipEvaluator(keyed, data.ground_truth, SKELETON, codec, batch_size=2)
    space = video_space_of(small, T)
    score = InheritedClipScore(supernet.eval(), space, evaluator, keyed, early_stop_margin=0.1)
    arch = space.sample(random.Random(0))
    xy_NFK2, scores_NFK = evaluator.predict(score.network(arch))
    by_frame = [
        mean_similarity(
            xy_NFK2[:, number],
            np.array([person.keypoints_K3 for person in crops.persons]),
            np.array([person.area for person in crops.persons]),
            SKELETON.sigmas,
        )
        for number, crops in enumerate(clips.frames)
    ]
    assert len(by_frame) == T + 1
    assert score(arch) == pytest.approx(np.mean(by_frame))
    halves = evaluator.halves()
    assert halves is not None and len(halves[0].keyed.clips) + len(halves[1].keyed.clips) == len(
        clips
    )
    assert score.above(arch, score(arch)) == (score(arch), False)
    rough, was_cut = score.above(arch, 1.0)
    assert was_cut and rough == halves[0].score(*halves[0].predict(score.network(arch)))
