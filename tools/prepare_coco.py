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

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vipnas.data.formats.coco import read_coco
from vipnas.data.formats.reading import Reading
from vipnas.data.formats.skeletons import COCO_17
from vipnas.data.prepare import Preparation

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
    data = read_coco(root / name, root / split, COCO_17, Reading(skip_bad_images))
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


main = Preparation("prepare_coco", __doc__, SPLITS, missing_parts, describe).main

if __name__ == "__main__":
    sys.exit(main())
