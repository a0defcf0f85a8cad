"""Check a downloaded tree of PoseTrack18, say what is missing, and write one file per split.

    python tools/prepare_posetrack18.py /where/posetrack18/is [--splits train val]

The tree, as https://posetrack.net unpacks it:

    annotations/train/*.json, annotations/val/*.json     one a video
    images/train/VIDEO/*.jpg, images/val/VIDEO/*.jpg

All that `vipnas` checks when it opens a data set is checked here, once. Written into the tree:
posetrack18_SPLIT.json, all videos of a split with sizes and boxes filled in, which opens faster
than the many files, and index.json with the counts of every video. Exit code 1 where something is
missing or wrong.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vipnas.data.formats.posetrack import Video, read_posetrack
from vipnas.data.formats.posetrack_files import merged_document
from vipnas.data.formats.reading import Reading
from vipnas.data.formats.skeletons import read_skeleton
from vipnas.data.prepare import Preparation
from vipnas.files import write_atomically

SPLITS = ("train", "val")


def missing_parts(root: Path, splits: Sequence[str]) -> list[str]:
    """What to download, line by line."""
    missing = []
    for split in splits:
        files = sorted((root / "annotations" / split).glob("*.json"))
        if not files:
            missing.append(f"{root / 'annotations' / split}: no .json file; allowed: one per video")
        lost = [file.stem for file in files if not (root / "images" / split / file.stem).is_dir()]
        if lost:
            missing.append(
                f"{root / 'images' / split}: no folder for {len(lost)} of {len(files)} videos, "
                f"such as {lost[0]}"
            )
    return missing


def describe(root: Path, split: str, skip_bad_images: bool) -> dict[str, Any]:
    """One entry of the index: counts, and those of every video. Writes the split's merged file."""
    folder = root / "annotations" / split
    reading = Reading(skip_bad_images)
    data = read_posetrack(folder, root, read_skeleton("posetrack_18"), reading)
    merged = f"posetrack18_{split}.json"
    document = merged_document(folder, root, reading, data.skipped_images)
    write_atomically(root / merged, json.dumps(document) + "\n")
    return {
        "posetrack": merged,
        "num_videos": len(data.videos),
        "num_frames": len(data.frames),
        "num_labelled_frames": sum(frame.is_labelled for frame in data.frames),
        "num_persons": len(data.persons),
        "videos": {video.name: describe_video(video) for video in data.videos},
    }


def describe_video(video: Video) -> dict[str, int]:
    people = [person for frame in video.frames for person in frame.people]
    return {
        "num_frames": len(video.frames),
        "num_labelled_frames": sum(frame.is_labelled for frame in video.frames),
        "num_tracks": len({person.track_id for person in people}),
        "num_ignore_regions": sum(len(frame.ignore_regions) for frame in video.frames),
    }


main = Preparation("prepare_posetrack18", __doc__, SPLITS, missing_parts, describe).main

if __name__ == "__main__":
    sys.exit(main())
