"""The synthetic data set on disk: bytes, prefix, COCO format, and what it refuses."""

from __future__ import annotations

import json
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from vipnas.data.formats.skeletons import COCO_17
from vipnas.synthetic import images as synthetic
from vipnas.synthetic import scene as synthetic_scene
from vipnas.synthetic.images import synthesize
from vipnas.synthetic.scene import random_scene, render_image


def files_of(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def read_annotations(directory: Path) -> Any:
    return json.loads((directory / "annotations.json").read_text())


@pytest.fixture(scope="module")
def small_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("synthetic") / "set"
    synthesize(directory, num_images=12, seed=5)
    return directory


def test_same_seed_gives_same_bytes_and_another_seed_does_not(
    small_set: Path, tmp_path: Path
) -> None:
    synthesize(tmp_path / "again", num_images=12, seed=5)
    synthesize(tmp_path / "other", num_images=12, seed=6)
    assert files_of(tmp_path / "again") == files_of(small_set)
    first = Path("images") / "000001.jpg"
    assert (tmp_path / "other" / first).read_bytes() != (small_set / first).read_bytes()


def test_a_smaller_set_is_the_beginning_of_a_larger_one(small_set: Path, tmp_path: Path) -> None:
    synthesize(tmp_path / "short", num_images=5, seed=5)
    short, full = read_annotations(tmp_path / "short"), read_annotations(small_set)
    assert short["images"] == full["images"][:5]
    assert short["annotations"] == full["annotations"][: len(short["annotations"])]
    assert len(short["annotations"]) == sum(a["image_id"] <= 5 for a in full["annotations"])
    jpegs, full_jpegs = (files_of(where / "images") for where in (tmp_path / "short", small_set))
    assert jpegs == {f"{n:06d}.jpg": full_jpegs[f"{n:06d}.jpg"] for n in range(1, 6)}


def test_an_image_does_not_depend_on_the_ones_before_it(small_set: Path) -> None:
    jpeg, people = render_image(seed=5, index=7, image_hw=(240, 320), people_per_image=(1, 3))
    assert jpeg == (small_set / "images" / "000008.jpg").read_bytes()
    written = [a for a in read_annotations(small_set)["annotations"] if a["image_id"] == 8]
    assert [a["keypoints"] for a in written] == [a["keypoints"] for a in people]


def test_the_number_of_workers_does_not_matter(
    small_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synthetic, "POOL_SECONDS", 0.0)
    synthesize(tmp_path / "parallel", num_images=12, seed=5, num_workers=2)
    assert files_of(tmp_path / "parallel") == files_of(small_set)


def test_pycocotools_reads_it_and_every_field_is_in_its_range(small_set: Path) -> None:
    from pycocotools.coco import COCO

    coco = COCO(str(small_set / "annotations.json"))
    assert len(coco.getImgIds()) == 12
    category = coco.loadCats([1])[0]
    assert category["name"] == "person" and category["keypoints"] == list(COCO_17.joints)
    assert [11, 13] not in category["skeleton"] and [16, 14] in category["skeleton"]
    for image in coco.loadImgs(coco.getImgIds()):
        pixels = cv2.imread(str(small_set / "images" / image["file_name"]))
        assert pixels is not None and pixels.shape == (image["height"], image["width"], 3)
        people = coco.loadAnns(coco.getAnnIds(imgIds=image["id"]))
        assert 1 <= len(people) <= 3
        for person in people:
            assert person["iscrowd"] == 0 and person["category_id"] == 1
            check_person(person, image["width"], image["height"])


def check_person(person: dict[str, Any], width: int, height: int) -> None:
    xyv = np.array(person["keypoints"]).reshape(17, 3)
    xy, v = xyv[:, :2], xyv[:, 2]
    assert set(v) <= {0, 1, 2} and person["num_keypoints"] == (v > 0).sum()
    assert (xy[v == 0] == 0).all()
    assert (xy[v > 0] >= 0).all() and (xy[v > 0] <= [width - 1, height - 1]).all()
    assert np.array_equal(np.round(xy, 2), xy)
    x, y, box_width, box_height = person["bbox"]
    assert x >= 0 and y >= 0 and x + box_width <= width and y + box_height <= height
    assert 0 < person["area"] <= box_width * box_height
    # A joint lies within its flesh; faint ears may reach a pixel beyond the silhouette.
    assert (xy[v > 0] >= np.array([x, y]) - 1.5).all()
    assert (xy[v > 0] <= np.array([x + box_width, y + box_height]) + 0.5).all()


def test_annotations_hold_over_many_scenes() -> None:
    flags = []
    for index in range(25):
        _, people = render_image(seed=9, index=index, image_hw=(120, 160), people_per_image=(2, 3))
        for person in people:
            check_person(person, width=160, height=120)
            flags += person["keypoints"][2::3]
    shares = np.bincount(np.array(flags, dtype=int), minlength=3) / len(flags)
    # Mostly seen, many hidden, some outside: neither trivial nor hopeless.
    assert 0.55 < shares[2] < 0.9 and 0.1 < shares[1] < 0.4 and 0.002 < shares[0] < 0.15


def test_number_of_people_and_size_of_image_are_kept(tmp_path: Path) -> None:
    synthesize(tmp_path / "set", 3, seed=0, image_hw=(96, 64), people_per_image=(4, 4))
    document = read_annotations(tmp_path / "set")
    assert [a["image_id"] for a in document["annotations"]] == [1] * 4 + [2] * 4 + [3] * 4
    assert [a["id"] for a in document["annotations"]] == list(range(1, 13))
    image = cv2.imread(str(tmp_path / "set" / "images" / "000003.jpg"))
    assert image is not None and image.shape == (96, 64, 3)


def test_nearer_people_come_later_in_a_scene() -> None:
    scene = random_scene(np.random.default_rng(3), (240, 320), (6, 6))
    depths_m = [person.position_xyz[2] for person in scene.people]
    assert len(depths_m) == 6 and depths_m == sorted(depths_m, reverse=True)


def test_at_difficulty_0_everyone_in_the_pictures_is_upright() -> None:
    upright = []
    for difficulty in (0.0, 1.0):
        people = [
            np.array(person["keypoints"]).reshape(17, 3)
            for index in range(16)
            for person in render_image(3, index, (120, 160), (2, 2), difficulty)[1]
        ]
        shoulder, hip, knee = (
            np.array([xyv[joint, 1] for xyv in people if (xyv[[5, 11, 13], 2] > 0).all()])
            for joint in (5, 11, 13)
        )
        upright.append(((shoulder < hip) & (hip < knee)).mean())
    assert upright[0] == 1.0 and upright[1] < 0.95


def test_a_complete_set_is_left_alone(small_set: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in small_set.rglob("*")}
    synthesize(small_set, num_images=12, seed=5)
    assert {path: path.stat().st_mtime_ns for path in small_set.rglob("*")} == before


def test_another_set_or_foreign_files_are_refused_and_kept(small_set: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected a new or empty folder, or .* got other files"):
        synthesize(small_set, num_images=12, seed=6)
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(ValueError, match="expected a new or empty folder"):
        synthesize(tmp_path, num_images=1, seed=0)
    with pytest.raises(ValueError, match="expected a new or empty folder"):
        synthesize(tmp_path / "thesis.txt", num_images=1, seed=0)
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail_at_two(seed: int, index: int, *settings: Any) -> Any:
        if index == 2:
            raise OSError("disk full")
        return synthetic_scene.render_image(seed, index, *settings)

    monkeypatch.setattr(synthetic, "render_image", fail_at_two)
    with pytest.raises(OSError, match="disk full"):
        synthesize(tmp_path / "set", num_images=4, seed=0, image_hw=(48, 64))
    assert [path.name for path in tmp_path.iterdir()] == [".vipnas.lock"]


def test_what_a_killed_run_left_is_replaced(tmp_path: Path) -> None:
    left = tmp_path / ".set.partial" / "images"
    left.mkdir(parents=True)
    (left / "000099.jpg").write_bytes(b"torn")
    (tmp_path / "set").mkdir()
    synthesize(tmp_path / "set", num_images=2, seed=0, image_hw=(48, 64))
    assert sorted(files_of(tmp_path)) == [
        ".vipnas.lock",
        "set/annotations.json",
        "set/images/000001.jpg",
        "set/images/000002.jpg",
    ]


def test_of_two_that_make_the_same_set_one_waits(tmp_path: Path) -> None:
    """Both end with the whole set, made once."""
    context = get_context("spawn")
    arguments = (tmp_path / "set", 6, 0, (48, 64))
    processes = [context.Process(target=synthesize, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    synthesize(tmp_path / "alone", 6, 0, (48, 64))
    assert files_of(tmp_path / "set") == files_of(tmp_path / "alone")
    assert {path.name for path in tmp_path.iterdir()} == {"set", "alone", ".vipnas.lock"}


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"num_images": 0}, r"num_images: expected 1 or more, got 0"),
        ({"seed": -1}, r"seed: expected 0 or more, got -1"),
        (
            {"image_hw": (240, 8)},
            r"image_hw: expected 32 to 16384 in height and width, got \[240, 8\]",
        ),
        (
            {"people_per_image": (3, 2)},
            r"people_per_image: expected 1 <= lowest <= highest .*, got \[3, 2\]",
        ),
        ({"difficulty": 1.5}, r"difficulty: expected 0 to 1, got 1.5"),
        ({"num_workers": 0}, r"num_workers: expected 1 or more, got 0"),
    ],
)
def test_settings_out_of_range_are_refused(
    settings: dict[str, Any], complaint: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=complaint):
        synthesize(tmp_path / "set", **{"num_images": 1, "seed": 0, **settings})
    assert list(tmp_path.iterdir()) == []
