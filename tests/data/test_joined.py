"""Several annotation files in one experiment."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from errors_fixture import refused
from experiment_fixture import EXPERIMENT

from vipnas.cli.main import main
from vipnas.config.data import Augmentation, PoseFiles
from vipnas.data.codecs.heatmap import HeatmapCodec
from vipnas.data.crops.crops import fixed_crops
from vipnas.data.crops.loader import TrainingCrops
from vipnas.data.formats.coco import PoseData, read_coco
from vipnas.data.formats.joined import joined, read_parts
from vipnas.data.formats.reading import DEFAULT_READING, Reading
from vipnas.data.formats.skeletons import COCO_17, Skeleton
from vipnas.data.formats.splits import hold_out
from vipnas.files import parse, to_plain
from vipnas.training.losses import heatmap_loss

Files = list[tuple[Path, Path]]


@pytest.fixture
def files(tiny_coco: Any) -> Files:
    """The six images in two files and two folders, under the ids that they have in one file."""
    found: Files = []
    for name, numbers in (("a", range(2)), ("b", range(2, 6))):
        document = copy.deepcopy(tiny_coco.document)
        document["images"] = [document["images"][number] for number in numbers]
        ids = {image["id"] for image in document["images"]}
        annotations = document["annotations"]
        document["annotations"] = [entry for entry in annotations if entry["image_id"] in ids]
        folder = tiny_coco.image_root.parent / f"images_{name}"
        folder.mkdir()
        for image in document["images"]:
            source = tiny_coco.image_root / image["file_name"]
            (folder / image["file_name"]).write_bytes(source.read_bytes())
        path = folder.with_name(f"{name}.json")
        path.write_text(json.dumps(document))
        found.append((path, folder))
    return found


def read_coco_files(
    files: Files,
    skeleton: Skeleton,
    reading: Reading = DEFAULT_READING,
    renumber: bool = False,
    weights: tuple[float, ...] | None = None,
) -> PoseData:
    """Read files as an experiment does."""
    return joined(read_parts(files, skeleton, reading, weights), reading, renumber)


def change(path: Path, **change: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))


def from_one(path: Path) -> None:
    """Number the images and annotations of a file from 1."""
    document = json.loads(path.read_text())
    new = {image["id"]: number for number, image in enumerate(document["images"], start=1)}
    for image in document["images"]:
        image["id"] = new[image["id"]]
    for number, entry in enumerate(document["annotations"], start=1):
        entry.update(id=number, image_id=new[entry["image_id"]])
    path.write_text(json.dumps(document))


def without_paths(data: PoseData) -> list[Any]:
    return [(p.annotation_id, p.image_id, p.box_xywh, p.area) for p in data.persons]


def test_two_files_are_as_one(tiny_coco: Any, files: Files) -> None:
    whole = read_coco(tiny_coco.write(), tiny_coco.image_root, COCO_17)
    data = read_coco_files(files, COCO_17)
    assert without_paths(data) == without_paths(whole)
    assert data.ground_truth["annotations"] == whole.ground_truth["annotations"]
    assert data.ground_truth["categories"] == whole.ground_truth["categories"]
    assert data.source == f"{files[0][0]}, {files[1][0]}"
    for image, person in ((data.ground_truth["images"][5], data.persons[-1]),):
        assert image["id"] == person.image_id == 135
        assert data.image_root / image["file_name"] == person.image_path
    pictures = [fixed_crops(d.persons, COCO_17, (64, 48)).images_B3HW for d in (data, whole)]
    assert (pictures[0] == pictures[1]).all()


def test_training_images_are_numbered_where_ids_are_shared(
    files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    expected = read_coco_files(files, COCO_17)
    for path, _ in files:
        from_one(path)
    data = read_coco_files(files, COCO_17, renumber=True)
    assert [image["id"] for image in data.ground_truth["images"]] == [1, 2, 3, 4, 5, 6]
    assert [entry["id"] for entry in data.ground_truth["annotations"]] == list(range(1, 13))
    assert [p.annotation_id for p in data.persons] == list(range(1, 13))
    assert [p.image_id for p in data.persons] == [1, 2, 2, 3, 3, 3, 4, 5, 5, 6, 6, 6]
    assert [p.image_path for p in data.persons] == [p.image_path for p in expected.persons]
    assert "image 1: expected in one file only, got also in" in caplog.text
    with pytest.raises(ValueError, match=r"b\.json: image 1: expected in one file only, got also"):
        read_coco_files(files, COCO_17)


def test_skipped_images_keep_their_place_among_several_files(files: Files) -> None:
    for path, folder in files:
        from_one(path)
        lost = folder / json.loads(path.read_text())["images"][0]["file_name"]
        lost.unlink()
    skipping = Reading(skip_bad_images=True)
    data = read_coco_files(files, COCO_17, skipping, renumber=True)
    ids = [image["id"] for image in data.ground_truth["images"]]
    assert sorted([*ids, *data.skipped_images]) == [1, 2, 3, 4, 5, 6]
    assert len(data.skipped_images) == 2
    assert {person.image_id for person in data.persons} <= {*ids}
    with pytest.raises(ValueError, match=r"b\.json: image 2: expected in one file only, got also"):
        read_coco_files(files, COCO_17, skipping)  # 1 is skipped in both, and not to be told apart


def test_a_file_whose_images_are_all_bad_is_skipped(files: Files) -> None:
    for image in files[0][1].iterdir():
        image.unlink()
    data = read_coco_files(files, COCO_17, Reading(skip_bad_images=True))
    assert data.skipped_images.keys() == {100, 107}
    assert [image["id"] for image in data.ground_truth["images"]] == [114, 121, 128, 135]


def test_annotations_are_numbered_where_only_their_ids_are_shared(files: Files) -> None:
    document = json.loads(files[1][0].read_text())
    document["annotations"][0]["id"] = 10
    change(files[1][0], annotations=document["annotations"])
    data = read_coco_files(files, COCO_17)
    assert [p.annotation_id for p in data.persons] == list(range(1, 13))
    assert [image["id"] for image in data.ground_truth["images"]] == list(range(100, 136, 7))


def test_an_image_in_two_files_is_refused(files: Files) -> None:
    with pytest.raises(ValueError, match=r"image .*100\.jpg: expected in one file .*merge the two"):
        read_coco_files([files[0], (files[0][0], files[0][1])], COCO_17)


def test_each_file_has_its_own_category_ids(files: Files) -> None:
    document = json.loads(files[1][0].read_text())
    dog = {**document["categories"][0], "id": 18, "name": "dog"}
    for entry in document["annotations"]:
        entry["category_id"] = 18
    change(files[1][0], annotations=document["annotations"], categories=[dog])
    assert read_coco_files(files, COCO_17).category_names == "1 (person), 18 (dog)"
    data = read_coco_files(files, COCO_17, Reading(categories=("person", "dog")))
    assert [p.category_id for p in data.persons] == [1] * 3 + [18] * 9
    with pytest.raises(
        ValueError, match=r"b\.json: categories: expected person, got none of these"
    ):
        read_coco_files(files, COCO_17, Reading(categories=("person",)))


def test_a_file_without_a_labelled_person_is_one_of_several(files: Files) -> None:
    document = json.loads(files[0][0].read_text())
    for entry in document["annotations"]:
        entry.update(keypoints=[], num_keypoints=0)
    change(files[0][0], annotations=document["annotations"])
    data = read_coco_files(files, COCO_17)
    assert (len(data.persons), len(data.ground_truth["annotations"])) == (9, 12)
    with pytest.raises(ValueError, match=r"a\.json: expected a person with a labelled joint"):
        read_coco_files(files[:1], COCO_17)


@pytest.mark.parametrize(
    ("images", "expected"),
    [("x", [("a", "x"), ("b", "x")]), (["x", "y"], [("a", "x"), ("b", "y")])],
)
def test_the_experiment_names_one_folder_or_one_for_each(images: Any, expected: Any) -> None:
    files = parse(PoseFiles, {"annotations": ["a", "b"], "images": images}, "experiment.yaml")
    assert list(files.coco_files) == expected
    assert parse(PoseFiles, to_plain(files), "again") == files
    one = parse(PoseFiles, {"annotations": "a", "images": "x"}, "experiment.yaml")
    assert (one.coco_files, to_plain(one)["annotations"]) == ((("a", "x"),), "a")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"annotations": ["a", "b"], "images": ["x"]}, "or one for each of the 2 .*, got 1"),
        ({"annotations": "a", "images": ["x", "y"]}, "or one for each of the 1 .*, got 2"),
        ({"annotations": [], "images": "x"}, r"annotations: expected a name or a list of .*\[\]"),
        (
            {"annotations": 7, "images": "x"},
            "annotations: expected a name or a list of names, got 7",
        ),
        (
            {"annotations": ["a", 7], "images": "x"},
            "annotations: expected a name or a list of names",
        ),
        ({"posetrack": "a", "images": ["x"]}, "images: expected one folder for posetrack"),
    ],
)
def test_wrong_files_are_named_in_one_line(files: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(PoseFiles, files, "experiment.yaml")


def test_an_experiment_of_two_files(
    files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {
        "annotations": [path.name for path, _ in files],
        "images": [folder.name for _, folder in files],
    }
    for path, _ in files:
        from_one(path)
    data = {"train": names, "test": names, "val_persons": 4, "categories": ["person"]}
    experiment = tmp_path / "experiment.yaml"
    experiment.write_text(yaml.safe_dump({**EXPERIMENT, "data": data}))
    arguments = ["inspect-data", str(experiment), "--data-root", str(tmp_path)]
    arguments += ["--sheet", str(tmp_path / "sheet.png"), "--output", str(tmp_path / "run")]
    assert main([*arguments, "--split", "val"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"persons with labelled joints: [4-6] of [4-6] annotations", said)
    assert main([*arguments, "--split", "test"]) == 1
    assert "b.json: image 1: expected in one file only" in capsys.readouterr().err


def test_real_labels_win_and_validation_is_on_them(files: Files) -> None:
    (first, folder), second = files
    document = json.loads(first.read_text())
    pseudo = first.with_name("pseudo.json")
    pseudo.write_text(json.dumps({**document, "info": {"pseudo_labels": True}}))
    # The second file, and pseudo-labels for both.
    extra = second[0].with_name("extra.json")
    extra_document = json.loads(second[0].read_text())
    extra.write_text(json.dumps({**extra_document, "info": {"pseudo_labels": True}}))
    whole = read_coco_files([(pseudo, folder), second, (extra, second[1])], COCO_17, renumber=True)
    real = [person for person in whole.persons if not person.is_pseudo]
    assert without_ids(real) == without_ids(read_coco(*second, COCO_17).persons)
    added = [person for person in whole.persons if person.is_pseudo]
    assert without_ids(added) == without_ids(read_coco(pseudo, folder, COCO_17).persons)
    rest, val = hold_out(whole, 1, seed=0)
    assert len(val.persons) and not any(person.is_pseudo for person in val.persons)
    assert sum(person.is_pseudo for person in rest.persons) == len(added)
    with pytest.raises(ValueError, match="val_persons"):
        hold_out(whole, len(real) + 1, seed=0)
    alone = read_coco(pseudo, folder, COCO_17)
    assert len(hold_out(alone, 1, seed=0)[1].persons)


def without_ids(persons: Any) -> list[Any]:
    return [(p.box_xywh, p.area, p.keypoints_K3.tolist()) for p in persons]


def test_weights_of_files_are_those_of_the_loss(files: Files) -> None:
    data = read_coco_files(files, COCO_17, weights=(1.0, 0.25))
    weights = [person.weight for person in data.persons]
    assert set(weights) == {1.0, 0.25}
    crops = TrainingCrops(data.persons, COCO_17, (64, 48), Augmentation(), 0)
    _, keypoints = crops.__getitems__([(0, index) for index in range(len(crops))])
    labelled = [person.keypoints_K3[:, 2].max() > 0 for person in data.persons]
    assert all(labelled)
    expected = [2.0 if weight == 1 else 0.5 for weight in weights]
    assert keypoints[..., 2].amax(dim=1).tolist() == expected
    codec = HeatmapCodec((64, 48), (16, 12))
    targets, found = codec.encode(torch.tensor([[[24.0, 32, 2], [24, 32, 0.5], [24, 32, 0]]]))
    assert found.tolist() == [[1.0, 0.5, 0.0]]
    assert torch.equal(targets[0, 0], targets[0, 1])
    heatmaps = torch.zeros_like(targets)
    losses = [
        heatmap_loss(heatmaps[:, k : k + 1], targets[:, k : k + 1], found[:, k : k + 1])
        for k in range(2)
    ]
    torch.testing.assert_close(losses[1], 0.25 * losses[0])


@pytest.mark.parametrize("weights", [[1.0], [1.0, 0.0], [1.0, 1.5]])
def test_weights_that_are_none(weights: list[float]) -> None:
    raw = {"images": "images", "annotations": ["a.json", "b.json"]}
    assert parse(PoseFiles, {**raw, "weights": [1.0, 0.5]}, "file").weights == (1.0, 0.5)
    with refused("file: weights", "for each of the 2 annotation files", str(weights)):
        parse(PoseFiles, {**raw, "weights": weights}, "file")
