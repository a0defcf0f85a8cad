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

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vipnas.data.posetrack import PoseTrackData, read_posetrack
from vipnas.data.posetrack_files import merged_document
from vipnas.data.skeletons import read_skeleton
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


def describe(data: PoseTrackData) -> dict[str, Any]:
    """One entry of the index: counts, and those of every video."""
    return {
        "num_videos": len(data.videos),
        "num_frames": len(data.frames),
        "num_labelled_frames": sum(frame.is_labelled for frame in data.frames),
        "num_persons": len(data.people.persons),
        "videos": {
            video.name: {
                "num_frames": len(video.frames),
                "num_labelled_frames": sum(frame.is_labelled for frame in video.frames),
                "num_tracks": len(
                    {person.track_id for frame in video.frames for person in frame.people}
                ),
                "num_ignore_regions": sum(len(frame.ignore_regions) for frame in video.frames),
            }
            for video in data.videos
        },
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", type=Path)
    parser.add_argument("--splits", nargs="+", default=SPLITS)
    parser.add_argument("--skip-bad-images", action="store_true", help="list them and go on")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    root, skeleton = options.root, read_skeleton("posetrack_18")
    problems = missing_parts(root, options.splits)
    index = {}
    for split in options.splits if not problems else ():
        folder = root / "annotations" / split
        try:
            data = read_posetrack(folder, root, skeleton, options.skip_bad_images)
            merged = merged_document(folder, root)
        except ValueError as error:
            problems.append(str(error))
            continue
        index[split] = describe(data)
        write_atomically(root / f"posetrack18_{split}.json", json.dumps(merged) + "\n")
        counts = {key: value for key, value in index[split].items() if key != "videos"}
        print(f"{split}: {json.dumps(counts)}; {root / f'posetrack18_{split}.json'}")
    for problem in problems:
        print(f"prepare_posetrack18: {problem}", file=sys.stderr)
    if not problems:
        write_atomically(root / "index.json", json.dumps(index, indent=2) + "\n")
        print(f"index: {root / 'index.json'}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
