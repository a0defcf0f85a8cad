"""A trained network on image files: one person to an image, who fills it."""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from vipnas.data.codecs.heatmap import HeatmapCodec
from vipnas.data.crops.crops import fixed_crops
from vipnas.data.crops.images import read_image, write_png
from vipnas.data.formats.coco import Person
from vipnas.data.formats.skeletons import Skeleton
from vipnas.evaluation.evaluator import Evaluator
from vipnas.files import write_atomically
from vipnas.models.posenet import PoseNet
from vipnas.viz.poses import draw_poses

log = logging.getLogger(__name__)


def predict_images(
    network: PoseNet,
    codec: HeatmapCodec,
    skeleton: Skeleton,
    images: Sequence[Path],
    output: Path,
    min_score: float = 0.2,
) -> Path:
    """Write each image with its pose drawn on it (PNG), and `keypoints.json`; returns the latter.

    `images` are files, and folders whose images are taken (`image_files`). The JSON is a list of
    {image, keypoints: [[x, y, score], ...]} in pixels of the image, in the order of the skeleton's
    joints. Joints that score below `min_score` are not drawn.

    Raises ValueError naming the first file that is not an image, or whose picture would take the
    place of an image.
    """
    images = image_files(images, output)
    pictures = _pictures(images, output)
    persons = [_whole_image(number, path, skeleton) for number, path in enumerate(images)]
    crops = fixed_crops(persons, skeleton, network.arch.input_hw, span_hw=codec.span_hw)
    xy_NK2, scores_NK = Evaluator(crops, {}, skeleton, codec).predict(network)
    found = []
    for person, xy_K2, scores_K in zip(persons, xy_NK2, scores_NK, strict=True):
        image = read_image(person.image_path)
        picture = draw_poses(image, xy_K2[None], scores_K[None], skeleton, min_score=min_score)
        write_png(pictures[person.image_path], picture)
        keypoints = np.concatenate((xy_K2, scores_K[:, None]), axis=1).round(3).tolist()
        found.append({"image": str(person.image_path), "keypoints": keypoints})
    path = output / "keypoints.json"
    write_atomically(path, json.dumps(found, indent=1) + "\n")
    return path


def image_files(places: Sequence[Path], output: Path) -> list[Path]:
    """Return the files among `places`, and all images in and below its folders, by name.

    Files in folders that are no images are left out and counted in the log, as is all that is in
    `output`. Raises ValueError for a folder without images.
    """
    files: list[Path] = []
    others: list[Path] = []
    for place in places:
        if not place.is_dir():
            files.append(place)
            continue
        below = [path for path in sorted(place.rglob("*")) if path.is_file()]
        below = [path for path in below if output.resolve() not in path.resolve().parents]
        found = [path for path in below if cv2.haveImageReader(str(path))]
        if not found:
            raise ValueError(f"{place}: expected images in this folder, found none")
        files += found
        others += sorted(set(below) - set(found))
    if others:
        log.warning("%d files that are no images left out, such as %s", len(others), others[0])
    return files


def _pictures(images: Sequence[Path], output: Path) -> dict[Path, Path]:
    """Where each image is drawn; no two of them in one place, and none over an image.

    Images of the same name are told apart by their folders, below the one that holds them all, or
    by their suffixes. Raises ValueError for a picture that would replace an image.
    """
    images = list(dict.fromkeys(images))
    folder = os.path.commonpath([path.absolute().parent for path in images])
    names = [path.absolute().relative_to(folder) for path in images]
    stems = Counter(path.stem for path in images)
    places = Counter(name.with_suffix("") for name in names)
    pictures: dict[Path, Path] = {}
    for path, name in zip(images, names, strict=True):
        if stems[path.stem] == 1:
            pictures[path] = output / f"{path.stem}.png"
        elif places[name.with_suffix("")] == 1:
            pictures[path] = output / name.with_suffix(".png")
        else:
            pictures[path] = output / f"{name}.png"
    _check_places(pictures)
    return pictures


def _check_places(pictures: Mapping[Path, Path]) -> None:
    taken = {path.resolve(): path for path in pictures}
    for path, picture in pictures.items():
        if other := taken.get(picture.resolve()):
            raise ValueError(f"{path}: its picture would be {picture}, which {other} has taken")
        taken[picture.resolve()] = path


def _whole_image(number: int, path: Path, skeleton: Skeleton) -> Person:
    height, width = read_image(path).shape[:2]
    return Person(
        annotation_id=number,
        image_id=number,
        image_path=path,
        box_xywh=(0.0, 0.0, float(width), float(height)),
        area=float(width * height),
        keypoints_K3=np.zeros((skeleton.num_joints, 3), np.float32),
        image_hw=(height, width),
    )
