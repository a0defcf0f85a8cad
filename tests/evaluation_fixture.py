"""Crops of noise and an evaluator on them, for the tests of scoring."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from training_fixture import codec_of

from vipnas.data.crops.crops import Crops
from vipnas.data.formats.coco import Person
from vipnas.data.formats.skeletons import COCO_17
from vipnas.evaluation.evaluator import Evaluator
from vipnas.space.image import SearchSpace

NUM_CROPS = 10


def noise(space: SearchSpace, number: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (number, 3, *space.input_hw)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def evaluator_of(space: SearchSpace, flip_test: bool = True) -> Evaluator:
    """Crops of noise that are whole images: input pixels are image pixels."""
    height, width = space.input_hw
    keypoints = np.random.default_rng(0).uniform(8, 40, (NUM_CROPS, 17, 3)).astype(np.float32)
    keypoints[..., 2] = 2
    persons, annotations = [], []
    for number in range(NUM_CROPS):
        box = (0.0, 0.0, float(width), float(height))
        person = Person(
            number + 1, number + 1, Path(f"{number}.jpg"), box, 2000.0, keypoints[number]
        )
        persons.append(person)
        annotation: dict[str, Any] = {"id": number + 1, "image_id": number + 1, "category_id": 1}
        annotation |= {"bbox": list(box), "area": 2000.0, "iscrowd": 0, "num_keypoints": 17}
        annotations.append({**annotation, "keypoints": keypoints[number].ravel().tolist()})
    ground_truth = {
        "images": [{"id": n + 1, "width": width, "height": height} for n in range(NUM_CROPS)],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO_17.joints)}],
    }
    identity = np.tile(np.eye(2, 3), (NUM_CROPS, 1, 1))
    crops = Crops(noise(space, NUM_CROPS, 1), torch.from_numpy(keypoints), tuple(persons), identity)
    return Evaluator(crops, ground_truth, COCO_17, codec_of(space), 4, flip_test)
