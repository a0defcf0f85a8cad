"""Read labels by `sleap-io`: projects and packages of SLEAP, and what else that package reads.

Where frames are in videos or in the project itself, they are written as PNG files.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vipnas.data.crops.images import image_size, write_png
from vipnas.data.imports.labels import Joint, LabelledImage, LabelledPerson, Labels
from vipnas.data.imports.table import Source
from vipnas.errors import UserError


def read(source: Source) -> Labels:
    """Read the labels that people made; predictions are left out."""
    try:
        import sleap_io
    except ImportError:
        hint = "pip install 'vipnas[sleap]'"
        raise UserError("sleap", "sleap-io installed", "none", hint) from None
    if not source.path.exists():
        raise UserError(str(source.path), "a file", "none")
    try:
        project = sleap_io.load_file(str(source.path))
    except Exception as error:  # as many classes as formats
        hint = " ".join(str(error).split()) or type(error).__name__
        raise UserError(str(source.path), "labels that sleap-io reads", "others", hint) from error
    frames = [frame for frame in project.labeled_frames if frame.user_instances]
    videos = [project.videos.index(frame.video) for frame in frames]
    files = [
        _image_file(frame, source) or _written(frame, video, source)
        for frame, video in zip(frames, videos, strict=True)
    ]
    root = Path(os.path.commonpath([file.parent for file in files])) if files else None
    left_out: Counter[str] = Counter()
    left_out["predicted instances"] = sum(
        len(f.predicted_instances) for f in project.labeled_frames
    )
    joints: dict[str, tuple[str, ...]] = {}
    images = []
    for frame, file in zip(frames, files, strict=True):
        persons = tuple(_persons(frame))
        for instance in frame.user_instances:
            joints[_category(instance)] = tuple(instance.skeleton.node_names)
        name = file.relative_to(root).as_posix() if root else file.name
        images.append(LabelledImage(name, image_size(file), persons))
    return Labels(tuple(images), joints, root, +left_out)


def _persons(frame: Any) -> Iterator[LabelledPerson]:
    for instance in frame.user_instances:
        xy_K2 = instance.numpy()
        joints = {
            name: Joint(float(x), float(y))
            for name, (x, y) in zip(instance.skeleton.node_names, xy_K2, strict=True)
            if np.isfinite((x, y)).all()
        }
        if joints:
            yield LabelledPerson(_category(instance), joints)


def _category(instance: Any) -> str:
    return instance.skeleton.name or "animal"


def _image_file(frame: Any, source: Source) -> Path | None:
    """The file of a frame of a list of images, where it was or beside the project."""
    names = frame.video.filename
    if not isinstance(names, (list, tuple)):
        return None
    file = Path(names[frame.frame_idx])
    places = [file, source.path.parent / file, (source.images or source.path.parent) / file.name]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        hint = "--images DIR names the folder that has it"
        raise UserError(f"{source.path}: {file}", "an image file", "none", hint)
    return found.resolve()


def _written(frame: Any, video: int, source: Source) -> Path:
    """Write a frame of a video, which is number `video` of the project, as a PNG file."""
    if source.images is None:
        hint = "--images DIR names the folder that the frames are written to"
        raise UserError(f"{source.path}: {frame.video.filename}", "image files", "a video", hint)
    try:
        picture = np.asarray(frame.image)
    except Exception as error:  # of the video's reader
        reason = " ".join(str(error).split()) or type(error).__name__
        place = f"{source.path}: frame {frame.frame_idx} of {frame.video.filename}"
        raise UserError(place, "a frame that can be read", "none", reason) from error
    if picture.shape[2] == 1:
        picture = picture.repeat(3, axis=2)
    stem = Path(str(frame.video.filename)).name.partition(".")[0]
    file = source.images.resolve() / f"{stem}_{video}_{frame.frame_idx:06d}.png"
    write_png(file, np.ascontiguousarray(picture, dtype=np.uint8))
    return file
