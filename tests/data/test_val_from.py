"""A validation split that is taken out of some annotation files of several."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from errors_fixture import refused

from vipnas.config.data import Data
from vipnas.data.formats.coco import PoseData
from vipnas.data.formats.skeletons import COCO_17
from vipnas.files import parse, to_plain
from vipnas.pipeline.sources import Sources

# The images of each file; image N of the six has 1 + N % 3 persons. The ids of `real.json` fall.
IMAGES = {"real.json": (2, 1, 0), "photos.json": (3, 4), "others.json": (5,)}
FILES = {"annotations": ["real.json", "photos.json"], "images": "images"}


@pytest.fixture
def sources(tiny_coco: Any) -> Callable[..., Sources]:
    """The people of some files, all with the same ids, and of settings of the section `data`."""
    root: Path = tiny_coco.image_root.parent
    for name, numbers in IMAGES.items():
        document = {**tiny_coco.document, "images": [], "annotations": []}
        for new_id, number in zip((30, 20, 10), numbers, strict=False):
            image = tiny_coco.document["images"][number]
            document["images"].append({**image, "id": new_id})
            for entry in tiny_coco.document["annotations"]:
                if entry["image_id"] == image["id"]:
                    new = {"id": len(document["annotations"]), "image_id": new_id}
                    document["annotations"].append({**entry, **new})
        if name != "real.json":
            document["info"] = {"pseudo_labels": True}
        (root / name).write_text(json.dumps(document))

    def of(names: list[str], seed: int = 0, **settings: Any) -> Sources:
        files = {**FILES, "annotations": names}
        test = {**FILES, "annotations": "real.json"}
        config = parse(Data, {"train": files, "test": test, "val_persons": 2, **settings}, "file")
        return Sources(config, root, root, COCO_17, seed)

    return of


def people(data: PoseData) -> list[Any]:
    return [(p.image_id, p.annotation_id, p.image_path.name, p.box_xywh) for p in data.persons]


def names(data: PoseData) -> list[str]:
    return [Path(image["file_name"]).name for image in data.ground_truth["images"]]


@pytest.mark.parametrize("seed", range(4))
def test_the_split_does_not_depend_on_the_other_files(
    sources: Callable[..., Sources], seed: int
) -> None:
    _, alone = sources(["real.json"], seed).train_and_val()
    expected = people(alone), alone.ground_truth
    others = (
        ["real.json"],
        ["real.json", "photos.json"],
        ["others.json", "real.json"],
        ["photos.json", "real.json", "others.json"],
    )
    for files in others:
        rest, val = sources(files, seed, val_from="real.json").train_and_val()
        assert (people(val), val.ground_truth) == expected
        everyone = [f"{100 + 7 * n}.jpg" for name in files for n in IMAGES[name]]
        assert sorted(names(rest) + names(val)) == sorted(everyone)
        total = sum(1 + n % 3 for name in files for n in IMAGES[name])
        assert len(rest.persons) == total - len(val.persons)


def test_a_file_of_which_nothing_is_left_and_one_that_a_model_labelled(
    sources: Callable[..., Sources],
) -> None:
    rest, val = sources(FILES["annotations"], val_from=["real.json"], val_persons=6).train_and_val()
    assert len(val.persons) == 6
    assert all(person.is_pseudo for person in rest.persons)
    rest, val = sources(FILES["annotations"], val_from=["photos.json"]).train_and_val()
    assert all(person.is_pseudo for person in val.persons)
    assert sum(not person.is_pseudo for person in rest.persons) == 6


def test_an_image_in_both_files_is_in_one_set(sources: Callable[..., Sources]) -> None:
    """The split of a pseudo-labelled file has its labels; training does not see the image."""
    made = sources(FILES["annotations"], val_from="photos.json", val_persons=3)
    photos = made.data_root / "photos.json"
    real = json.loads((made.data_root / "real.json").read_text())
    photos.write_text(json.dumps({**real, "info": {"pseudo_labels": True}}))
    rest, val = made.train_and_val()
    assert all(person.is_pseudo for person in val.persons)
    assert sorted(names(rest) + names(val)) == sorted(names(made.read("train")))


def test_fewer_training_persons_leave_the_split_as_it_is(sources: Callable[..., Sources]) -> None:
    settings = {"val_from": ["real.json"], "val_persons": 2}
    whole = sources(FILES["annotations"], **settings).train_and_val()
    rest, val = sources(FILES["annotations"], **settings, max_train_persons=3).train_and_val()
    assert people(val) == people(whole[1])
    assert 0 < len(rest.persons) <= 3
    assert {*names(rest)} < {*names(whole[0])}


def test_the_files_are_noted_by_content_and_only_if_given(
    sources: Callable[..., Sources],
) -> None:
    def settings(source: Any = "train", **data: Any) -> dict[str, Any]:
        made = sources(FILES["annotations"], **data)
        return made.settings(source, lambda: (made.read(source),))

    before, now = settings(), settings(val_from="real.json")
    assert before.keys() == {"annotations", "images"}
    assert settings(val_from=None) == before
    assert now == {**before, "val_from": settings("test")["annotations"]}
    assert settings(val_from="photos.json")["val_from"] != now["val_from"]
    assert settings(val_from=["photos.json", "real.json"]) == settings(
        val_from=["real.json", "photos.json"]
    )
    assert settings("test", val_from="real.json") == settings("test")
    data = sources(FILES["annotations"], val_from="real.json").config
    assert to_plain(data)["val_from"] == "real.json"


@pytest.mark.parametrize("num_persons", [7, 400])
def test_too_many_persons_for_the_file(sources: Callable[..., Sources], num_persons: int) -> None:
    made = sources(FILES["annotations"], val_from="real.json", val_persons=num_persons)
    found = f"{num_persons} of 6 persons in 3 images"
    place = f"{made.data_root / 'real.json'}: data.val_persons"
    with refused(place, "at least 1", found, "more files in data.val_from"):
        made.train_and_val()
    alone = sources(["real.json"], val_from="real.json", val_persons=6)
    with refused(place, "left for training", "6 of 6 persons"):
        alone.train_and_val()


@pytest.mark.parametrize(
    ("data", "found", "hint"),
    [
        ({"train": FILES, "val_from": "test.json"}, "['test.json']", "real.json, photos.json"),
        ({"train": FILES, "val_from": "real"}, "['real']", "real.json, photos.json"),
        ({"train": FILES, "val_from": ["real.json"] * 2}, "['real.json', ", "these are"),
        (
            {"train": {"posetrack": "a", "images": "."}, "val_from": "a"},
            "['a']",
            "no annotation files",
        ),
        (
            {"synthetic": {"num_train_images": 1, "num_test_images": 1}, "val_from": "a"},
            "['a']",
            "no annotation files",
        ),
    ],
)
def test_names_of_no_training_file(data: dict[str, Any], found: str, hint: str) -> None:
    test = {"test": FILES} if "train" in data else {}
    with refused("file: val_from", "annotation files of train, each once", found, hint):
        parse(Data, {**data, **test}, "file")
