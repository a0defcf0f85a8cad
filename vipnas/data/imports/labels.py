"""Labels as read from another program, and the COCO document that they become."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from vipnas.data.formats.coco_annotations import AREA_OF_BOX, box_around_joints
from vipnas.errors import UserError, nearest, shown

DECIMALS = 3  # of pixels


class Joint(NamedTuple):
    """A labelled joint in pixels; visibility as in COCO: 1 hidden, 2 visible."""

    x_px: float
    y_px: float
    visibility: int = 2


@dataclass(frozen=True)
class LabelledPerson:
    """One labelled person or animal.

    Attributes:
        category: Name of its category.
        joints: The labelled joints by name.
        box_xywh: Its box in pixels; None where the source has none.
    """

    category: str
    joints: Mapping[str, Joint]
    box_xywh: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class LabelledImage:
    """An image by its path relative to the folder of images, and who is labelled in it."""

    file_name: str
    image_hw: tuple[int, int]
    persons: tuple[LabelledPerson, ...]


@dataclass(frozen=True)
class Labels:
    """All labels of a source.

    Attributes:
        images: The labelled images.
        joints: Joint names of each category, in the order of the annotation file.
        image_root: The folder of the images; None where the source does not tell.
        left_out: How many labels were left out, by reason.
    """

    images: tuple[LabelledImage, ...]
    joints: Mapping[str, tuple[str, ...]]
    image_root: Path | None
    left_out: Counter[str] = field(default_factory=Counter)

    @property
    def num_persons(self) -> int:
        return sum(len(image.persons) for image in self.images)

    def num_unlabelled(self, category: str) -> int:
        """Return how many joints of a category nobody has a label of."""
        persons = (person for image in self.images for person in image.persons)
        labelled = {name for p in persons if p.category == category for name in p.joints}
        return len(set(self.joints[category]) - labelled)

    def in_order_of(self, joints: Sequence[str], place: str) -> Labels:
        """Return the labels with the given joints; those that the source lacks are unlabelled.

        Raises:
            UserError: A category has another joint.
        """
        for category, found in self.joints.items():
            for name in found:
                if name not in joints:
                    hint = f"{nearest(name, joints)} the skeleton has {', '.join(joints)}".lstrip()
                    where = f"{place}: category {category!r}"
                    raise UserError(where, "joints of the skeleton", shown(name), hint)
        return replace(self, joints={category: tuple(joints) for category in self.joints})


def coco_document(labels: Labels) -> dict[str, Any]:
    """Return the labels as a COCO annotation file, with ids from 1.

    A missing box is that of the joints, 1.3 times as large; the area is 0.53 of the box.
    """
    ids = {category: number for number, category in enumerate(labels.joints, start=1)}
    annotations: list[dict[str, Any]] = []
    for image_id, image in enumerate(labels.images, start=1):
        for person in image.persons:
            annotation = _annotation(person, labels.joints[person.category])
            key = {"id": len(annotations) + 1, "image_id": image_id}
            annotations.append({**key, "category_id": ids[person.category], **annotation})
    images = [
        {
            "id": number,
            "file_name": image.file_name,
            "height": image.image_hw[0],
            "width": image.image_hw[1],
        }
        for number, image in enumerate(labels.images, start=1)
    ]
    categories = [
        {"id": ids[category], "name": category, "keypoints": list(joints), "skeleton": []}
        for category, joints in labels.joints.items()
    ]
    return {"images": images, "annotations": annotations, "categories": categories}


def _annotation(person: LabelledPerson, names: Sequence[str]) -> dict[str, Any]:
    unlabelled = Joint(0, 0, 0)
    joints = [person.joints.get(name, unlabelled) for name in names]
    keypoints = [
        value
        for joint in joints
        for value in (round(joint.x_px, DECIMALS), round(joint.y_px, DECIMALS), joint.visibility)
    ]
    box_xywh = person.box_xywh or box_around_joints(keypoints)
    return {
        "keypoints": keypoints,
        "num_keypoints": len(person.joints),
        "bbox": [round(value, DECIMALS) for value in box_xywh],
        "area": round(AREA_OF_BOX * box_xywh[2] * box_xywh[3], DECIMALS),
        "iscrowd": 0,
    }
