"""Synthetic images: people with exact COCO-17 keypoints, as JPEGs and COCO JSON.

Image i depends on the seed and i alone. So a larger set starts with the images of a smaller one,
and any number of processes writes the same bytes.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import cv2

from vipnas.data.formats.skeletons import COCO_17
from vipnas.errors import UserError
from vipnas.files import locked, write_atomically
from vipnas.synthetic.scene import render_image

T = TypeVar("T")

ANNOTATIONS = "annotations.json"
VERSION = 2  # raised whenever the same seed gives other images
MIN_SIDE_PX, MAX_SIDE_PX = 32, 16_384
MAX_PEOPLE = 20
# Starting processes takes about as long: what takes less is made in this one.
POOL_SECONDS = 2.0

People = list[dict[str, Any]]  # the annotations of one image, without ids


def settings_of(
    num_images: int,
    seed: int,
    image_hw: tuple[int, int],
    people_per_image: tuple[int, int],
    difficulty: float,
) -> dict[str, Any]:
    """Return the settings that determine a set, stored in the `info` of its annotations."""
    return {
        "generator": "vipnas synthesize",
        "version": VERSION,
        "num_images": num_images,
        "seed": seed,
        "image_hw": list(image_hw),
        "people_per_image": list(people_per_image),
        "difficulty": difficulty,
    }


def synthesize(
    output_dir: Path,
    num_images: int,
    seed: int,
    image_hw: tuple[int, int] = (240, 320),
    people_per_image: tuple[int, int] = (1, 3),
    num_workers: int = 1,
    difficulty: float = 1.0,
) -> None:
    """Write `images/000001.jpg ...` and `annotations.json`, all or nothing.

    A complete set of the same settings is kept. Boxes and areas include the occluded parts of a
    person inside the image.

    Args:
        output_dir: A new or empty folder, or one with the complete set.
        num_images: Number of images.
        seed: Seed of the set.
        image_hw: Height and width.
        people_per_image: Lowest and highest number of people.
        num_workers: Number of processes.
        difficulty: 0 to 1: variety of poses and views, clutter and occlusion. At 0, people are
            upright and seen from the front.

    Raises:
        UserError: A setting is out of range, or `output_dir` has other files.
    """
    settings = settings_of(num_images, seed, image_hw, people_per_image, difficulty)
    check_settings(settings, num_workers, (num_images >= 1, "num_images", "1 or more"))
    make = partial(_make_image, (seed, image_hw, people_per_image, difficulty))

    def fill(folder: Path) -> None:
        (folder / "images").mkdir()
        people = list(in_order(partial(make, folder / "images"), num_images, num_workers))
        write_atomically(
            folder / ANNOTATIONS, json.dumps(_coco_document(settings, image_hw, people))
        )

    make_folder(output_dir, settings, ANNOTATIONS, fill)


def make_folder(
    output_dir: Path, settings: dict[str, Any], settings_file: str, fill: Callable[[Path], None]
) -> None:
    """Fill a temporary folder and rename it to `output_dir`.

    If several processes need the same set, one makes it and the others wait.

    Args:
        output_dir: A new or empty folder, or one with the complete set, which is kept.
        settings: Settings of the set.
        settings_file: Name of the file with the settings in its `info`.
        fill: Writes the set into a folder.

    Raises:
        UserError: `output_dir` has other files.
    """
    output_dir = output_dir.absolute()
    output_dir.parent.mkdir(parents=True, exist_ok=True)
    with locked(output_dir.parent):
        if output_dir.exists() and not (output_dir.is_dir() and not any(output_dir.iterdir())):
            if _settings_in(output_dir / settings_file) == settings:
                return
            expected = "a new or empty folder, or the complete synthetic set of the same settings"
            raise UserError(str(output_dir), expected, "other files")
        aside = output_dir.with_name(f".{output_dir.name}.partial")
        shutil.rmtree(aside, ignore_errors=True)  # left by a killed process
        aside.mkdir()
        print(f"synthesize: rendering {output_dir}", file=sys.stderr, flush=True)
        try:
            fill(aside)
            if output_dir.exists():
                output_dir.rmdir()
            aside.rename(output_dir)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


Rule = tuple[bool, str, str]  # whether it holds, the name of the setting, what is expected


def check_settings(settings: dict[str, Any], num_workers: int, *rules: Rule) -> None:
    """Check settings of images or videos.

    Args:
        settings: The settings.
        num_workers: Number of processes.
        rules: Rules that images and videos do not share.

    Raises:
        UserError: A rule does not hold.
    """
    people = next(name for name in settings if name.startswith("people_per_"))
    least, most = settings[people]
    shared: tuple[Rule, ...] = (
        (settings["seed"] >= 0, "seed", "0 or more"),
        (
            all(MIN_SIDE_PX <= side <= MAX_SIDE_PX for side in settings["image_hw"]),
            "image_hw",
            f"{MIN_SIDE_PX} to {MAX_SIDE_PX} in height and width",
        ),
        (1 <= least <= most <= MAX_PEOPLE, people, f"1 <= lowest <= highest <= {MAX_PEOPLE}"),
        (0.0 <= settings["difficulty"] <= 1.0, "difficulty", "0 to 1"),
    )
    for holds, name, expected in (*rules, *shared):
        if not holds:
            raise UserError(f"synthesize: {name}", expected, str(settings[name]))
    if num_workers < 1:
        raise UserError("synthesize: num_workers", "1 or more", str(num_workers))


def _settings_in(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())["info"]["settings"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def in_order(make: Callable[[int], T], count: int, num_workers: int) -> Iterator[T]:
    """Yield `make(0)`, `make(1)`, ..., with a progress bar on a terminal.

    Args:
        make: A picklable function.
        count: Number of calls.
        num_workers: Number of processes, for what one would take longer for than to start them.
    """
    from rich.console import Console
    from rich.progress import track

    yield from track(
        _made(make, count, num_workers),
        "rendering",
        total=count,
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )


def _made(make: Callable[[int], T], count: int, num_workers: int) -> Iterator[T]:
    if num_workers == 1:
        yield from map(make, range(count))
        return
    started = time.monotonic()
    first = make(0)
    left_s = (count - 1) * (time.monotonic() - started)
    yield first
    if left_s <= POOL_SECONDS:
        yield from map(make, range(1, count))
        return
    # Spawn, because a fork would copy locks of the parent's threads (torch).
    chunk = max(1, min(16, count // (4 * num_workers)))
    with ProcessPoolExecutor(
        num_workers, mp_context=get_context("spawn"), initializer=cv2.setNumThreads, initargs=(1,)
    ) as pool:
        yield from pool.map(make, range(1, count), chunksize=chunk)


def _make_image(
    settings: tuple[int, tuple[int, int], tuple[int, int], float], images_dir: Path, index: int
) -> People:
    """Render and write image `index`. Return the annotations, without ids."""
    seed, image_hw, people_per_image, difficulty = settings
    jpeg, people = render_image(seed, index, image_hw, people_per_image, difficulty)
    (images_dir / _file_name(index)).write_bytes(jpeg)
    return people


def _file_name(index: int) -> str:
    return f"{index + 1:06d}.jpg"


def _coco_document(
    settings: dict[str, Any], image_hw: tuple[int, int], people: list[People]
) -> dict[str, Any]:
    height, width = image_hw
    numbered = [(index, person) for index, found in enumerate(people) for person in found]
    category = {
        "id": 1,
        "name": "person",
        "supercategory": "person",
        "keypoints": list(COCO_17.joints),
        "skeleton": [[start + 1, stop + 1] for start, stop in COCO_17.limbs],
    }
    return {
        "info": {"description": "Synthetic people with exact keypoints", "settings": settings},
        "images": [
            {"id": index + 1, "file_name": _file_name(index), "height": height, "width": width}
            for index in range(len(people))
        ],
        "annotations": [
            {"id": number, "image_id": index + 1, **person}
            for number, (index, person) in enumerate(numbered, 1)
        ],
        "categories": [category],
    }
