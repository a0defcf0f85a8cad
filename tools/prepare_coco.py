"""Check a downloaded tree of COCO keypoints, say what is missing, and write an index of it.

    python tools/prepare_coco.py /where/coco/is [--splits train2017 val2017] [--skip-bad-images]

The tree, as https://cocodataset.org/#download unpacks it:

    annotations/person_keypoints_train2017.json, person_keypoints_val2017.json
    train2017/*.jpg, val2017/*.jpg

All that `vipnas` checks when it opens a data set is checked here, once. The index, index.json in
the tree, holds the counts and the digest of each annotation file. Exit code 1 where something is
missing or wrong.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vipnas.data.coco import read_coco
from vipnas.data.skeletons import COCO_17
from vipnas.files import write_atomically

SPLITS = ("train2017", "val2017")


def missing_parts(root: Path, splits: Sequence[str]) -> list[str]:
    """What to download, line by line."""
    missing = []
    for split in splits:
        annotations = root / "annotations" / f"person_keypoints_{split}.json"
        if not annotations.is_file():
            missing.append(f"{annotations}: missing; it is in annotations_trainval2017.zip")
        if not next((root / split).glob("*.jpg"), None):
            missing.append(f"{root / split}: no images; they are in {split}.zip")
    return missing


def describe(root: Path, split: str, skip_bad_images: bool) -> dict[str, Any]:
    """One entry of the index. Raises ValueError, one line, for what is wrong."""
    name = f"annotations/person_keypoints_{split}.json"
    data = read_coco(root / name, root / split, COCO_17, skip_bad_images)
    annotations = data.ground_truth["annotations"]
    return {
        "annotations": name,
        "images": split,
        "sha256": hashlib.sha256((root / name).read_bytes()).hexdigest(),
        "num_images": len(data.ground_truth["images"]),
        "num_images_with_persons": len({person.image_id for person in data.persons}),
        "num_annotations": len(annotations),
        "num_crowds": sum(entry["iscrowd"] for entry in annotations),
        "num_persons": len(data.persons),
        "num_labelled_joints": sum(entry["num_keypoints"] for entry in annotations),
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
    problems = missing_parts(options.root, options.splits)
    index = {}
    if not problems:
        for split in options.splits:
            try:
                index[split] = describe(options.root, split, options.skip_bad_images)
            except ValueError as error:
                problems.append(str(error))
            else:
                print(f"{split}: {json.dumps(index[split])}")
    for problem in problems:
        print(f"prepare_coco: {problem}", file=sys.stderr)
    if not problems:
        write_atomically(options.root / "index.json", json.dumps(index, indent=2) + "\n")
        print(f"index: {options.root / 'index.json'}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
