"""How a crop is made from a box: its padding, and how it gets the aspect ratio of the input."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from experiment_fixture import EXPERIMENT, draw_people, write_experiment
from model_fixture import header_of_arch

from vipnas.config.data import Augmentation, BoxFit
from vipnas.data.crops.augmentation import augmented_matrix, crop_draws, decode_reduction
from vipnas.data.crops.cache import open_crop_cache
from vipnas.data.crops.crops import fixed_crops
from vipnas.data.crops.geometry import crop_region, input_from_image, invert, transform
from vipnas.data.crops.images import read_image
from vipnas.data.crops.loader import TrainingCrops
from vipnas.data.formats.coco import PoseData, read_coco
from vipnas.data.formats.skeletons import COCO_17
from vipnas.deploy.model import PoseModel
from vipnas.errors import UserError
from vipnas.evaluation.evaluator import Evaluator
from vipnas.models.posenet import PoseNet
from vipnas.pipeline.experiment import Experiment
from vipnas.pipeline.models import check_facts
from vipnas.space.image import SearchSpace

STRETCHED = BoxFit(1.5, "stretch")
INPUT_HW = (64, 48)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PoseData:
    directory = draw_people(tmp_path_factory.mktemp("people")) / "test"
    return read_coco(directory / "annotations.json", directory / "images", COCO_17)


def test_a_stretched_crop_shows_the_padded_box_and_no_more() -> None:
    region = crop_region((10, 20, 60, 40), INPUT_HW, STRETCHED)
    assert region == ((40, 40), (90, 60))
    corners = np.array([[-5, 10], [85, 10], [85, 70], [40, 40]])
    matrix = input_from_image(*region, INPUT_HW)
    assert transform(matrix, corners) == pytest.approx(
        np.array([[0, 0], [48, 0], [48, 64], [24, 32]])
    )
    mirrored = input_from_image(*region, INPUT_HW, flip=True)
    assert transform(mirrored, corners)[:, 0] == pytest.approx([48, 0, 0, 24])
    # A quarter turn clockwise, then the stretch: what was on the right is below.
    turned = input_from_image(*region, INPUT_HW, rotation_deg=90)
    assert transform(turned, np.array([[85, 40]])) == pytest.approx(np.array([[24, 80]]))


def test_an_extended_box_has_one_scale_to_the_bit() -> None:
    rng = random.Random(0)
    for _ in range(200):
        box = tuple(rng.uniform(1, 500) for _ in range(4))
        matrix = input_from_image(*crop_region(box, INPUT_HW, BoxFit(rng.uniform(1, 2))), INPUT_HW)
        assert matrix[0, 0] == matrix[1, 1] and matrix[0, 1] == -matrix[1, 0] == 0


def test_training_scoring_and_cached_crops_are_stretched_alike(
    data: PoseData, tmp_path: Path
) -> None:
    augmentation = Augmentation()
    common = data.persons, COCO_17, INPUT_HW
    fixed = fixed_crops(*common, augmentation, seed=3, fit=STRETCHED)
    training = TrainingCrops(*common, augmentation, 3, fit=STRETCHED)
    cache = open_crop_cache(tmp_path, *common, augmentation, STRETCHED)
    assert cache.path != open_crop_cache(tmp_path, *common, augmentation).path
    cached = TrainingCrops(*common, augmentation, 3, cache=cache, fit=STRETCHED)
    keys = [(0, index) for index in range(len(data.persons))]
    images, keypoints = training.__getitems__(keys)
    assert torch.equal(fixed.images_B3HW, images) and torch.equal(fixed.keypoints_BK3, keypoints)
    cached_images, cached_keypoints = cached.__getitems__(keys)
    assert torch.equal(cached_keypoints, keypoints)
    assert (cached_images.int() - images.int()).abs().max() <= 1
    plain = fixed_crops(*common, fit=STRETCHED)
    scale_x, scale_y = (1 / plain.image_from_input_B23[:, axis, axis] for axis in (0, 1))
    boxes_N4 = np.array([person.box_xywh for person in data.persons])
    assert scale_x == pytest.approx(48 / (1.5 * boxes_N4[:, 2]))
    assert scale_y == pytest.approx(64 / (1.5 * boxes_N4[:, 3]))


def test_no_stretched_crop_shows_fewer_pixels_than_the_input_has(data: PoseData) -> None:
    augmentation = Augmentation()
    for person in data.persons:
        wide = replace(person, box_xywh=(0.0, 0.0, 400.0, 30.0))
        reduction = decode_reduction(wide, COCO_17, (12, 12), augmentation, STRETCHED)
        for index in range(20):
            draws = crop_draws(0, 0, index)
            matrix, _ = augmented_matrix(wide, COCO_17, (12, 12), augmentation, draws, STRETCHED)
            scale = np.hypot(*matrix[:, :2].T).max()
            assert scale * reduction <= max(1, scale) * (1 + 1e-9)


def test_predict_crops_as_the_header_says(data: PoseData, tiny_space: SearchSpace) -> None:
    torch.manual_seed(0)
    network = PoseNet(tiny_space.min_arch())
    header = header_of_arch(network.arch)
    shown = replace(header.input, box_padding=STRETCHED.padding, aspect=STRETCHED.aspect)
    model = PoseModel(network, replace(header, input=shown), Path("network.safetensors"))
    path = data.persons[0].image_path
    persons = [person for person in data.persons if person.image_path == path]
    crops = fixed_crops(persons, COCO_17, INPUT_HW, fit=STRETCHED)
    xy, _ = Evaluator(crops, {}, COCO_17, model.codec).predict(network)
    boxes = [(x, y, x + w, y + h) for x, y, w, h in (person.box_xywh for person in persons)]
    assert np.array_equal(model.predict(read_image(path), boxes).keypoints, xy)
    assert (
        invert(crops.image_from_input_B23)[0, 0, 0] != invert(crops.image_from_input_B23)[0, 1, 1]
    )


def test_a_model_of_other_boxes_is_refused_and_settings_name_them(tmp_path: Path) -> None:
    def opened(**changes: object) -> Experiment:
        file = write_experiment(tmp_path, {**EXPERIMENT, **changes})
        return Experiment.open(file, tmp_path / "run", tmp_path, torch.device("cpu"))

    stretched = opened(box={"padding": 1.5, "aspect": "stretch"})
    assert stretched.config.box == STRETCHED
    header = header_of_arch(stretched.space.max_arch())
    check_facts(opened(), header, Path("network.safetensors"))
    with pytest.raises(UserError) as refused:
        check_facts(stretched, header, Path("network.safetensors"))
    assert refused.value.place == "network.safetensors: box.padding"
    assert (refused.value.expected, refused.value.found) == ("the experiment's 1.5", "1.25")
