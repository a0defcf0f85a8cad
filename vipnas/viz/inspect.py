"""Describe a data set: counts, and a contact sheet of crops with joints and heatmaps.

K joints, H W height and width of a crop.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vipnas.config.data import Augmentation, BoxFit
from vipnas.data.codecs.heatmap import HeatmapCodec
from vipnas.data.crops.crops import Crops, fixed_crops
from vipnas.data.crops.geometry import PUBLISHED_FIT
from vipnas.data.crops.images import write_png
from vipnas.data.formats.coco import Person, PoseData
from vipnas.data.formats.posetrack import PoseTrackData, TrackedPerson
from vipnas.data.formats.skeletons import Skeleton
from vipnas.data.formats.suspicions import suspicions
from vipnas.errors import UserError
from vipnas.viz.poses import UINT8, draw_pose, draw_text

VISIBILITIES = ("not labelled", "hidden", "visible")
_TILES_PER_ROW = 6  # a tile is a crop with joints and the crop with heatmaps


def inspect_data(
    data: PoseData,
    codec: HeatmapCodec,
    output: Path,
    num_persons: int = 24,
    augmentation: Augmentation | None = None,
    seed: int = 0,
    fit: BoxFit = PUBLISHED_FIT,
) -> str:
    """Write a contact sheet and return a description of the data.

    Args:
        data: The data set.
        codec: Gives the sizes of crops and heatmaps.
        output: PNG file of the contact sheet.
        num_persons: Number of persons on the sheet, chosen by the seed.
        augmentation: Show crops as in the first epoch of training, not as in evaluation.
        seed: Seed of the choice and of the augmentation.
        fit: How the region of a crop is made from the box.

    Raises:
        UserError: If `num_persons` is below 1.
    """
    if num_persons < 1:
        raise UserError("num_persons", "1 or more", str(num_persons))
    rng = np.random.default_rng(seed)
    chosen = sorted(rng.permutation(len(data.persons))[:num_persons].tolist())
    persons = [data.persons[index] for index in chosen]
    crops = fixed_crops(
        persons, data.skeleton, codec.input_hw, augmentation, seed, codec.span_hw, fit
    )
    write_png(output, contact_sheet(crops, data.skeleton, codec))
    return "\n".join([*describe(data), f"contact sheet of {len(persons)} persons: {output}"])


def describe(data: PoseData) -> list[str]:
    """Return lines with counts, box sizes, visibility of joints, and suspicious labels."""
    truth, persons = data.ground_truth, data.persons
    boxes_N4 = np.array([person.box_xywh for person in persons])
    keypoints_NK3 = np.stack([person.keypoints_K3 for person in persons])
    num_crowds = sum(entry["iscrowd"] for entry in truth["annotations"])
    in_image = Counter(person.image_id for person in persons)
    outside = [person for person in persons if _joints_outside(person)]
    lines = [
        f"skeleton: {data.skeleton.name}, {data.skeleton.num_joints} joints",
        f"images: {len(truth['images'])}, of them {len(in_image)} with labelled persons",
        f"persons with labelled joints: {len(persons)} of "
        f"{len(truth['annotations']) + len(data.left_out)} annotations, "
        f"{num_crowds} of them crowds; at most {max(in_image.values())} in an image",
        *_left_out(data),
        *_pseudo_labelled(data),
        _quantiles("box width", boxes_N4[:, 2]),
        _quantiles("box height", boxes_N4[:, 3]),
        _quantiles("area", np.array([person.area for person in persons])),
        _quantiles("labelled joints", (keypoints_NK3[..., 2] > 0).sum(axis=1)),
        f"persons with a labelled joint outside the image: {len(outside)}"
        + (f", such as annotation {outside[0].annotation_id}" if outside else ""),
        *suspicions(data),
        *(_describe_videos(data) if isinstance(data, PoseTrackData) else ()),
        "visibility of each joint (" + ", ".join(VISIBILITIES) + "):",
    ]
    width = max(map(len, data.skeleton.joints))
    for joint, name in enumerate(data.skeleton.joints):
        counts = [int((keypoints_NK3[:, joint, 2] == value).sum()) for value in range(3)]
        lines.append(f"  {name:<{width}} " + " ".join(f"{count:7d}" for count in counts))
    return lines


def _left_out(data: PoseData) -> list[str]:
    """Return lines with the number of annotations without a training person, by reason."""
    reasons = Counter(entry.reason for entry in data.left_out)
    for entry in data.ground_truth["annotations"]:
        if entry["iscrowd"]:
            reasons["crowds are not scored"] += 1
        elif entry["num_keypoints"] == 0:
            reasons["no joint is labelled"] += 1
    return [f"annotations left out: {count}, {reason}" for reason, count in reasons.items()]


def _pseudo_labelled(data: PoseData) -> list[str]:
    """Return a line with the number of persons that a model labelled; none without them."""
    number = sum(person.is_pseudo for person in data.persons)
    return [f"persons labelled by a model: {number} of {len(data.persons)}"] if number else []


def _describe_videos(data: PoseTrackData) -> list[str]:
    frames = data.frames
    tracks = Counter(
        (video.name, person.track_id)
        for video in data.videos
        for frame in video.frames
        for person in frame.people
    )
    without_head = sum(
        isinstance(person, TrackedPerson) and person.head_box_xywh is None
        for person in data.persons
    )
    return [
        f"videos: {len(data.videos)}, frames: {len(frames)}, of them "
        f"{sum(frame.is_labelled for frame in frames)} labelled, "
        f"{sum(bool(frame.ignore_regions) for frame in frames)} with ignore regions",
        _quantiles(f"frames of each of {len(tracks)} tracks", np.array(list(tracks.values()))),
        f"labelled persons without a head box: {without_head}",
    ]


def _quantiles(what: str, values: NDArray[np.generic]) -> str:
    low, tenth, median, ninetieth, high = np.percentile(values.astype(float), (0, 10, 50, 90, 100))
    return (
        f"{what}: median {median:g}, 10th percentile {tenth:g}, 90th percentile {ninetieth:g}, "
        f"range {low:g} to {high:g}"
    )


def _joints_outside(person: Person) -> bool:
    if person.image_hw is None:
        return False
    x, y, visibility = person.keypoints_K3.T
    height, width = person.image_hw
    return bool(((visibility > 0) & ((x < 0) | (y < 0) | (x >= width) | (y >= height))).any())


def contact_sheet(crops: Crops, skeleton: Skeleton, codec: HeatmapCodec) -> UINT8:
    """Return an RGB picture with two tiles per person: joints, and heatmaps over the crop."""
    codec = codec.drawn
    heatmaps_BKHW, weights_BK = codec.encode(crops.keypoints_BK3)
    strongest_BHW = (heatmaps_BKHW * weights_BK[..., None, None]).amax(dim=1).numpy()
    tiles = []
    for row, person in enumerate(crops.persons):
        image = np.ascontiguousarray(crops.images_B3HW[row].permute(1, 2, 0).numpy())
        pose = draw_pose(image, crops.keypoints_BK3[row].numpy(), skeleton)
        draw_text(pose, str(person.annotation_id), (0, 0), 9, (255, 255, 0))
        tiles.append(np.hstack((pose, _under_heatmap(image, strongest_BHW[row], codec))))
    blank = np.zeros_like(tiles[0])
    rows = [tiles[first : first + _TILES_PER_ROW] for first in range(0, len(tiles), _TILES_PER_ROW)]
    rows[-1] += [blank] * (min(_TILES_PER_ROW, len(tiles)) - len(rows[-1]))
    return np.vstack([np.hstack(row) for row in rows])


def _under_heatmap(
    image_HW3: UINT8, strongest_HW: NDArray[np.floating], codec: HeatmapCodec
) -> UINT8:
    """Return the crop in grey, overlaid with the maximum of all heatmaps in colour."""
    height, width = image_HW3.shape[:2]
    stride_x, stride_y = codec.stride_xy
    to_input = np.array(((stride_x, 0, 0), (0, stride_y, 0)), np.float64)
    large = cv2.warpAffine(np.asarray(strongest_HW, np.float32), to_input, (width, height))
    colours = cv2.applyColorMap(np.asarray(255 * np.clip(large, 0, 1), np.uint8), cv2.COLORMAP_JET)
    grey = cv2.cvtColor(cv2.cvtColor(image_HW3, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    share = np.clip(large, 0, 1)[..., None] * 0.7
    mixed = grey * (1 - share) + cv2.cvtColor(colours, cv2.COLOR_BGR2RGB) * share
    return np.asarray(mixed, np.uint8)
