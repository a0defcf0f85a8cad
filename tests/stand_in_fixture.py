"""Small synthetic data in the layout of published data sets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vipnas.config.data import Data, PoseFiles
from vipnas.synthetic.images import ANNOTATIONS, synthesize
from vipnas.synthetic.videos import synthesize_video

NUM_IMAGES, NUM_VIDEOS, NUM_FRAMES = 12, 4, 8
IMAGE_HW = (96, 112)
FIRST_ID = {"train": 1, "test": 1001}


def make_stand_in(data: Data, root: Path) -> None:
    """Write what the data section of an experiment names below its data root.

    Each split has about a dozen persons; one of an image, one or two of a video.
    """
    for split, files in (("train", data.train), ("test", data.test)):
        if files is None:
            continue
        if files.posetrack is not None:
            _make_posetrack(root, files, split)
        else:
            _make_coco(root, files, split)


def _make_coco(root: Path, files: PoseFiles, split: str) -> None:
    """As COCO's own files: an unlabelled person, a crowd, and an image without persons."""
    assert isinstance(files.annotations, str) and isinstance(files.images, str)
    made, first_id = root / f"made_{split}", FIRST_ID[split]
    synthesize(made, NUM_IMAGES + 1, first_id, IMAGE_HW, (1, 1), difficulty=0.0)
    document = json.loads((made / ANNOTATIONS).read_text())
    images = root / files.images
    images.mkdir(parents=True, exist_ok=True)
    new_ids = {}
    for number, image in enumerate(document["images"], start=first_id):
        new_ids[image["id"]] = number
        name = f"{number:012}.jpg"
        (made / "images" / image["file_name"]).rename(images / name)
        image |= {"id": number, "file_name": name, "license": 1, "coco_url": f"http://host/{name}"}
    annotations = [
        {**person, "image_id": new_ids[person["image_id"]], "segmentation": [[1.0, 2, 9, 2, 9, 8]]}
        for person in document["annotations"]
    ]
    *annotations, last = annotations
    unlabelled = {"num_keypoints": 0, "keypoints": [0] * 51}
    crowd = {"iscrowd": 1, "segmentation": {"size": list(IMAGE_HW), "counts": [5, 9]}}
    first = annotations[0]["image_id"]
    annotations.append({**last, **unlabelled, "image_id": first})
    annotations.append({**last, **unlabelled, **crowd, "image_id": first, "id": last["id"] + 1})
    document |= {"annotations": annotations, "licenses": [{"id": 1, "name": "none"}]}
    _write(root / files.annotations, document)


def _make_posetrack(root: Path, files: PoseFiles, split: str) -> None:
    """As the official files: no sizes, frames without labels, a person without, ignore regions."""
    assert isinstance(files.posetrack, str) and isinstance(files.images, str)
    made, folder = root / f"made_{split}", root / files.posetrack
    synthesize_video(
        made, NUM_VIDEOS, FIRST_ID[split], NUM_FRAMES, IMAGE_HW, (1, 2), difficulty=0.0
    )
    below = f"images/{folder.name}"
    (root / files.images / below).mkdir(parents=True)
    for file in sorted((made / "annotations").iterdir()):
        document = json.loads(file.read_text())
        name = f"{file.stem}_mpii_{split}"
        (made / "images" / file.stem).rename(root / files.images / below / name)
        unlabelled = set()
        for number, image in enumerate(document["images"]):
            del image["height"], image["width"]
            image["file_name"] = f"{below}/{name}/{number:06}.jpg"
            image["is_labeled"] = 0 < number < NUM_FRAMES - 1
            if not image["is_labeled"]:
                unlabelled.add(image["id"])
            elif number == 1:
                image |= {"ignore_regions_x": [[1, 9, 5]], "ignore_regions_y": [[2, 3, 8]]}
        document["annotations"] = [
            person for person in document["annotations"] if person["image_id"] not in unlabelled
        ]
        document["annotations"][0]["keypoints"] = [0.0] * 51
        _write(folder / f"{name}.json", document)


def _write(path: Path, document: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
