"""Synthetic videos of moving people with tracks, in PoseTrack18 form.

Video i depends on the seed and i alone.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vipnas.data.formats.skeletons import read_skeleton
from vipnas.files import write_atomically
from vipnas.synthetic.clip import frames_of, random_video
from vipnas.synthetic.images import check_settings, in_order, make_folder

INFO = "info.json"
VERSION = 1  # raised whenever the same seed gives other videos
MAX_FRAMES = 10_000  # of a video, so that ids of its images are not those of the next one
MAX_SPEED = 10.0
JOINTS = read_skeleton("posetrack_18").joints

Settings = dict[str, Any]


def settings_of(
    num_videos: int,
    seed: int,
    num_frames: int,
    image_hw: tuple[int, int],
    people_per_video: tuple[int, int],
    difficulty: float,
    speed: float,
) -> Settings:
    """Return all that decides the content of a set, as `info.json` holds it."""
    return {
        "generator": "vipnas synthesize --video",
        "version": VERSION,
        "num_videos": num_videos,
        "seed": seed,
        "num_frames": num_frames,
        "image_hw": list(image_hw),
        "people_per_video": list(people_per_video),
        "difficulty": difficulty,
        "speed": speed,
    }


def synthesize_video(
    output_dir: Path,
    num_videos: int,
    seed: int,
    num_frames: int = 24,
    image_hw: tuple[int, int] = (240, 320),
    people_per_video: tuple[int, int] = (1, 3),
    num_workers: int = 1,
    difficulty: float = 1.0,
    speed: float = 1.0,
) -> None:
    """Write `images/000001/000000.jpg ...` and `annotations/000001.json ...`, all or nothing.

    Boxes and areas are as in `synthesize`. The skeleton is posetrack_18.

    Args:
        output_dir: A new or empty folder, or one with the complete set, which is kept.
        num_videos: Number of videos.
        seed: Seed of the set.
        num_frames: Frames per video, at 25 per second.
        image_hw: Height and width.
        people_per_video: Lowest and highest number of people.
        num_workers: Number of processes.
        difficulty: 0 to 1, as in `synthesize`; also camera motion, motion blur and loss of focus.
        speed: Speed of motion, 1 is natural.

    Raises:
        UserError: A setting is out of range, or `output_dir` has other files.
    """
    settings = settings_of(
        num_videos, seed, num_frames, image_hw, people_per_video, difficulty, speed
    )
    check_settings(
        settings,
        num_workers,
        (num_videos >= 1, "num_videos", "1 or more"),
        (1 <= num_frames <= MAX_FRAMES, "num_frames", f"1 to {MAX_FRAMES}"),
        (0 < speed <= MAX_SPEED, "speed", f"above 0, up to {MAX_SPEED:g}"),
    )

    def fill(folder: Path) -> None:
        (folder / "annotations").mkdir()
        for _ in in_order(partial(_make_video, settings, folder), num_videos, num_workers):
            pass
        write_atomically(folder / INFO, json.dumps({"info": {"settings": settings}}) + "\n")

    make_folder(output_dir, settings, INFO, fill)


def _make_video(settings: Settings, folder: Path, index: int) -> None:
    """Render and write one video."""
    name = f"{index + 1:06d}"
    first_id = (index + 1) * MAX_FRAMES
    rng = np.random.default_rng([settings["seed"], index, VERSION])
    video = random_video(
        rng,
        settings["num_frames"],
        settings["image_hw"],
        settings["people_per_video"],
        settings["difficulty"],
        settings["speed"],
    )
    images, annotations = [], []
    (folder / "images" / name).mkdir(parents=True)
    for number, (jpeg, people) in enumerate(frames_of(video, rng, JOINTS)):
        file_name = f"images/{name}/{number:06d}.jpg"
        (folder / file_name).write_bytes(jpeg)
        image_id = first_id + number
        images.append(
            {
                "id": image_id,
                "frame_id": image_id,
                "vid_id": name,
                "file_name": file_name,
                "height": settings["image_hw"][0],
                "width": settings["image_hw"][1],
                "nframes": settings["num_frames"],
                "is_labeled": True,
            }
        )
        for person in people:
            number_of_person = image_id * 100 + person["track_id"]
            annotations.append({"id": number_of_person, "image_id": image_id, **person})
    category = {"id": 1, "name": "person", "supercategory": "person", "keypoints": list(JOINTS)}
    document = {"images": images, "annotations": annotations, "categories": [category]}
    (folder / "annotations" / f"{name}.json").write_text(
        json.dumps(document) + "\n", encoding="utf-8"
    )
