from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from posetrack_fixture import POSETRACK_18, Tree, keypoints
from torch.nn.functional import affine_grid, grid_sample

from vipnas.config.data import Augmentation, ClipAugmentation, Follow
from vipnas.data.codecs.heatmap import CODECS, HeatmapCodec, make_codec
from vipnas.data.crops.clips import Clip, TrainingClips, clips_of, fixed_clips
from vipnas.data.crops.crops import fixed_crops
from vipnas.data.crops.geometry import (
    FloatArray,
    box_of_joints,
    crop_region,
    heatmap_warp,
    input_from_image,
    invert,
    transform,
)
from vipnas.data.crops.loader import training_batches
from vipnas.data.formats.posetrack import PoseTrackData, read_posetrack

CODEC = make_codec("quarter", (64, 48), (16, 12))
EVERYTHING = ClipAugmentation(Augmentation(flip_probability=0.5, rotation_probability=1))
NOTHING = Augmentation(
    flip_probability=0, rotation_probability=0, scale_factor=0, half_body_probability=0
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PoseTrackData:
    """Video a: track 0 in frames 0-5, track 7 in 0, 1, 3, 4, 5 (a gap); video b: track 0 in 0-2.
    Each picture is grey with a white square that moves with track 0's first labelled joint."""
    root = tmp_path_factory.mktemp("videos")
    (root / "annotations").mkdir()
    frames_of: dict[str, dict[int, Sequence[int]]]
    frames_of = {"a": {0: range(6), 7: (0, 1, 3, 4, 5)}, "b": {0: range(3)}}
    for video, tracks in frames_of.items():
        first_id = 1000 * (1 + ord(video))
        images, annotations = [], []
        (root / "images" / video).mkdir(parents=True)
        for number in range(6 if video == "a" else 3):
            name = f"images/{video}/{number:06}.png"
            picture = np.full((120, 160, 3), 90, np.uint8)
            picture[30 + 3 * number : 33 + 3 * number, 30 + 4 * number : 33 + 4 * number] = 255
            cv2.imwrite(str(root / name), picture)
            images.append({"id": first_id + number, "file_name": name, "vid_id": video})
            for track, numbers in tracks.items():
                if number in numbers:
                    x, y = 31 + 4 * number + 5 * track, 31 + 3 * number
                    annotations.append(
                        {
                            "id": 10 * (first_id + number) + track,
                            "image_id": first_id + number,
                            "track_id": track,
                            "category_id": 1,
                            "bbox": [x - 10, y - 14, 30 + number, 50],
                            "bbox_head": [x, y, 6, 8],
                            "keypoints": keypoints(x, y),
                        }
                    )
        category = {"id": 1, "name": "person", "keypoints": list(POSETRACK_18.joints)}
        document = {"images": images, "annotations": annotations, "categories": [category]}
        (root / "annotations" / f"{video}.json").write_text(json.dumps(document))
    return read_posetrack(root / "annotations", root, POSETRACK_18)


def places(clip: Clip) -> tuple[str, int, list[int]]:
    """Video, track and frame numbers, by the names of the images."""
    videos = {person.image_path.parent.name for person in clip.people}
    tracks = {person.track_id for person in clip.people}
    assert len(videos) == len(tracks) == 1
    return videos.pop(), tracks.pop(), [int(p.image_path.stem) for p in clip.people]


def test_clips_keep_to_a_video_a_track_and_a_piece_without_gaps(data: PoseTrackData) -> None:
    assert [places(clip) for clip in clips_of(data, 2)] == [
        *(("a", 0, [n, n + 1, n + 2]) for n in range(4)),
        ("a", 7, [3, 4, 5]),
        ("b", 0, [0, 1, 2]),
    ]
    assert [places(clip)[2] for clip in clips_of(data, 2, stride=3)] == [
        *([0, 1, 2], [3, 4, 5]),
        [3, 4, 5],
        [0, 1, 2],
    ]
    assert len(clips_of(data, 0)) == len(data.persons) == 14
    with pytest.raises(ValueError, match="expected a person labelled in 7 consecutive frames, got"):
        clips_of(data, 6)
    with pytest.raises(ValueError, match="stride of 1 or more, got 2 and 0"):
        clips_of(data, 2, stride=0)


def test_frames_without_a_labelled_joint_break_a_track(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    first = tree.documents["000522"]["annotations"]
    first[1]["keypoints"] = [0.0] * 51
    videos = {places(clip)[0] for clip in clips_of(tree.read(), 1)}
    assert videos == {"000342_mpii_test"}


regions = st.tuples(
    st.floats(-50, 200),
    st.floats(-50, 200),
    st.floats(5, 300),
    st.floats(-180, 180),
    st.booleans(),
)


def region(codec: HeatmapCodec, drawn: tuple[float, float, float, float, bool]) -> FloatArray:
    x, y, width, angle_deg, flip = drawn
    height, span_w = codec.span_hw
    size_wh = (width, width * height / span_w)
    return input_from_image((x, y), size_wh, codec.span_hw, angle_deg, flip)


def normalised(xy_px: FloatArray, codec: HeatmapCodec) -> FloatArray:
    """Input pixels to the edges-are-1 coordinates of `affine_grid`, on the heatmap."""
    size = np.array(codec.heatmap_hw[::-1])
    return (2 * (xy_px / codec.stride_xy) + 1) / size - 1


@given(regions, regions, st.sampled_from(sorted(CODECS)))
def test_a_warp_takes_a_place_to_where_the_crop_before_sees_it(
    before: tuple[float, float, float, float, bool],
    now: tuple[float, float, float, float, bool],
    name: str,
) -> None:
    codec = make_codec(name, (64, 48), (16, 12))
    matrices = region(codec, before), region(codec, now)
    warp = heatmap_warp(*matrices, codec.stride_xy, codec.heatmap_hw)
    image_xy = np.array(((0.0, 0.0), (100.0, 20.0), (-30.0, 77.0)))
    seen_before, seen_now = (normalised(transform(matrix, image_xy), codec) for matrix in matrices)
    scale = 1 + np.abs(seen_before).max() + np.abs(seen_now).max()
    np.testing.assert_allclose(transform(warp, seen_now), seen_before, atol=1e-9 * scale)
    same = heatmap_warp(matrices[1], matrices[1], codec.stride_xy, codec.heatmap_hw)
    np.testing.assert_allclose(same, np.eye(2, 3), atol=1e-9)


@pytest.mark.parametrize("name", sorted(CODECS))
@pytest.mark.parametrize("flip", [False, True])
def test_warped_heatmaps_are_those_of_the_new_crop(name: str, flip: bool) -> None:
    """By PyTorch's own sampling: the decoded joints of the warped maps lie where the new crop has
    them."""
    codec = make_codec(name, (256, 192), (64, 48))
    image_xy = np.array(((60.0, 70.0), (75.0, 120.0), (90.0, 88.0)))
    boxes = [(40, 40, 60, 100), (46, 34, 66, 110)]
    before, now = (
        input_from_image(*crop_region(box, codec.span_hw), codec.span_hw, 10, flip) for box in boxes
    )
    joints = [
        torch.from_numpy(np.column_stack((transform(matrix, image_xy), np.full(3, 2))))[None]
        for matrix in (before, now)
    ]
    heatmaps, _ = codec.encode(joints[0].float())
    warp = torch.from_numpy(heatmap_warp(before, now, codec.stride_xy, codec.heatmap_hw)).float()
    grid = affine_grid(warp[None], list(heatmaps.shape), align_corners=False)
    seen = grid_sample(heatmaps, grid, align_corners=False)
    xy, _ = make_codec("dark" if name == "quarter" else name, (256, 192), (64, 48)).decode(seen)
    assert (xy - joints[1][..., :2]).abs().max() < 0.5  # of 256 x 192; interpolation widens maps


def training(data: PoseTrackData, augmentation: ClipAugmentation, seed: int = 0) -> TrainingClips:
    return TrainingClips(clips_of(data, 2), POSETRACK_18, CODEC, augmentation, seed)


def test_joints_warp_from_crop_to_crop_in_training_batches(data: PoseTrackData) -> None:
    """A joint that stands still in the image is where `warps` says, whatever the augmentation."""
    still = [
        Clip(tuple(replace(p, keypoints_K3=clip.people[0].keypoints_K3) for p in clip.people))
        for clip in clips_of(data, 2)
    ]
    follows: tuple[Follow, ...] = ("key", "before", "own")
    for follow in follows:
        augmentation = replace(EVERYTHING, follow=follow)
        crops = TrainingClips(still, POSETRACK_18, CODEC, augmentation, 3)
        batch = crops.__getitems__([(epoch, 2) for epoch in range(20)])
        seen = normalised(batch.keypoints[..., 5:, :2].double().numpy(), CODEC)
        mapped = transform(batch.warps.double().numpy(), seen[:, 1:])
        np.testing.assert_allclose(mapped, seen[:, :-1], atol=2e-5)


def test_pixels_lie_where_the_joints_are(data: PoseTrackData) -> None:
    """The white square of every frame, at the first joint of track 0."""
    crops = training(data, ClipAugmentation(replace(NOTHING, flip_probability=0.5)), seed=1)
    batch = crops.__getitems__([(epoch, 1) for epoch in range(10)])
    for image, joints in zip(
        batch.images.flatten(0, 1), batch.keypoints.flatten(0, 1), strict=True
    ):
        ys, xs = np.nonzero(image[0].numpy() > 180)
        sides = sorted(joints[5:7, :2].tolist())
        square = min(sides, key=lambda xy: abs(xy[0] - xs.mean()) + abs(xy[1] - ys.mean()))
        assert np.hypot(square[0] - xs.mean(), square[1] - ys.mean()) < 1.2


def test_one_augmentation_holds_for_a_whole_clip(data: PoseTrackData) -> None:
    fixed = replace(EVERYTHING, follow="key", shift=0.0, scale=0.0)
    batch = training(data, fixed).__getitems__([(epoch, 1) for epoch in range(6)])
    torch.testing.assert_close(batch.warps, torch.eye(2, 3).expand(6, 2, 2, 3))
    moving = training(data, replace(fixed, follow="own")).__getitems__([(0, 1)])
    assert (moving.warps - torch.eye(2, 3)).abs().max() > 0.01
    # Turned and mirrored alike: what remains between the crops is no rotation.
    assert moving.warps[..., 0, 1].abs().max() < 1e-6 and (moving.warps[..., 0, 0] > 0).all()


def test_a_clip_is_a_function_of_seed_and_key(data: PoseTrackData) -> None:
    first, again, other = (training(data, EVERYTHING, seed) for seed in (4, 4, 5))
    keys = [(0, 3), (1, 0), (1, 3)]
    for part, same in zip(first.__getitems__(keys), again.__getitems__(keys), strict=True):
        assert torch.equal(part, same)
    for row, key in enumerate(keys):
        assert torch.equal(first[key].images, first.__getitems__(keys).images[row])
    assert not torch.equal(first[keys[0]].warps, other[keys[0]].warps)
    assert not torch.equal(first[0, 3].warps, first[1, 3].warps)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_of_clips_are_a_function_of_the_step(data: PoseTrackData, num_workers: int) -> None:
    clips = training(data, EVERYTHING)
    whole = list(training_batches(clips, 4, 0, 3, num_workers))
    (last,) = training_batches(clips, 4, 2, 1)
    assert torch.equal(whole[2].images, last.images) and torch.equal(whole[2].warps, last.warps)
    assert last.images.shape == (4, 3, 3, 64, 48) and last.images.dtype == torch.uint8
    assert last.keypoints.shape == (4, 3, 17, 3) and last.warps.shape == (4, 2, 2, 3)


def test_without_follow_up_frames_fixed_clips_are_fixed_crops(data: PoseTrackData) -> None:
    clips = clips_of(data, 0)
    found = fixed_clips(clips, POSETRACK_18, CODEC).frames[0]
    persons = [clip.people[0] for clip in clips]
    expected = fixed_crops(persons, POSETRACK_18, CODEC.input_hw)
    assert torch.equal(found.images_B3HW, expected.images_B3HW)
    assert torch.equal(found.keypoints_BK3, expected.keypoints_BK3)


def test_fixed_clips_say_how_their_crops_lie(data: PoseTrackData) -> None:
    clips = clips_of(data, 2)
    for follow, moved in (("key", 0), ("before", 1), ("own", 2)):
        fixed = fixed_clips(clips, POSETRACK_18, CODEC, follow)  # type: ignore[arg-type]
        assert len(fixed) == len(fixed.frames[2]) == 6
        identity = [torch.allclose(w, torch.eye(2, 3), atol=1e-6) for w in fixed.warps_NT23[0]]
        assert identity == [True] * (2 - moved) + [False] * moved
        matrices = [invert(crops.image_from_input_B23) for crops in fixed.frames]
        warp = heatmap_warp(matrices[0], matrices[1], CODEC.stride_xy, CODEC.heatmap_hw)
        np.testing.assert_allclose(fixed.warps_NT23[:, 0], warp, atol=1e-6)


def test_a_clip_that_cannot_be_read_is_named_or_left_out(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    clips = clips_of(tree.read(), 1)
    assert len(clips) == 2
    path = clips[0].people[1].image_path
    path.write_bytes(b"\xff\xd8 no picture \xff\xd9")
    augmentation = ClipAugmentation(NOTHING)
    with pytest.raises(ValueError, match=str(path)):
        TrainingClips(clips, POSETRACK_18, CODEC, augmentation, 0)[0, 0]
    lenient = TrainingClips(clips, POSETRACK_18, CODEC, augmentation, 0, skip_bad_images=True)
    assert torch.equal(lenient[0, 0].keypoints[..., 2], lenient[0, 1].keypoints[..., 2])
    with pytest.raises(ValueError, match=r"expected clips of one length, got lengths \[\]"):
        TrainingClips((), POSETRACK_18, CODEC, augmentation, 0)


@pytest.mark.parametrize("name", ["shift", "scale"])
def test_a_jitter_out_of_range_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: expected a number from 0 to below 0.5, got 0.5"):
        ClipAugmentation(**{name: 0.5})  # type: ignore[arg-type]


def test_the_box_of_joints() -> None:
    assert box_of_joints(((3.0, 9.0), (1.0, 4.0), (2.0, 5.0))) == (1, 4, 2, 5)
    assert box_of_joints(((3.0, 9.0),)) == (2.5, 8.5, 1, 1)


def test_real_clips_cross_no_gap(vipnas_data: Path) -> None:
    root = vipnas_data / "bonn_video"
    real = read_posetrack(root / "060470979.json", root, POSETRACK_18)
    clips = clips_of(real, 3)
    assert len(clips) == 4 * (41 - 3)
    for clip in clips:
        _, _, numbers = places(clip)
        assert numbers == list(range(numbers[0], numbers[0] + 4))
