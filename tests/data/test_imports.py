"""Labels of other programs become COCO annotations with the right numbers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from vipnas.cli.main import main
from vipnas.data.formats.coco import read_coco
from vipnas.data.formats.reading import Reading
from vipnas.data.formats.skeletons import read_skeleton
from vipnas.data.imports.table import IMPORTERS

FIXTURES = Path(__file__).resolve().parent.parent / "artefacts" / "imports"
SKELETON = """
name: mouse_3
joints: [right_ear, left_ear, nose]
flip_pairs: [[left_ear, right_ear]]
sigmas: [0.05, 0.05, 0.05]
"""
needs_sleap_io = pytest.mark.skipif(
    find_spec("sleap_io") is None, reason="sleap-io is not installed: pip install 'vipnas[sleap]'"
)
Convert = Callable[..., dict[str, Any]]


@pytest.fixture
def convert(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Convert:
    """Run `import-data`; return the document that it wrote, and what it printed."""

    def run(program: str, source: Path, *more: str) -> dict[str, Any]:
        written = tmp_path / "data.json"
        assert main(["import-data", program, str(source), "-o", str(written), *more]) == 0
        return {**json.loads(written.read_text()), "printed": capsys.readouterr().out}

    return run


def joints_of(document: dict[str, Any]) -> list[list[float]]:
    return [annotation["keypoints"] for annotation in document["annotations"]]


def test_yolo_pose_in_pixels(convert: Convert) -> None:
    found = convert("yolo-pose", FIXTURES / "yolo", "--split", "val")
    assert joints_of(found) == [
        [50, 15, 2, 45, 12.5, 1, 0, 0, 0],
        [25, 25, 2, 24, 22, 2, 26, 22, 2],
    ]
    assert [a["bbox"] for a in found["annotations"]] == [[40, 10, 20, 20], [20, 20, 10, 10]]
    assert [c["name"] for c in found["categories"]] == ["mouse", "rat"]
    assert [i["file_name"] for i in found["images"]] == ["images/val/a.png", "images/val/b.png"]
    assert {(i["width"], i["height"]) for i in found["images"]} == {(100, 50)}


def test_yolo_pose_without_visibilities(convert: Convert, tmp_path: Path) -> None:
    """Joints below 0, and joints at exactly 0, 0, are not labelled."""
    folder = Path(shutil.copytree(FIXTURES / "yolo", tmp_path / "yolo"))
    data = (folder / "data.yaml").read_text().replace("[3, 3]", "[3, 2]")
    (folder / "data.yaml").write_text(data.partition("kpt_names")[0])
    labels = folder / "labels" / "val" / "a.txt"
    labels.write_text("0 0.5 0.4 0.2 0.4 0.5 0.3 -1 -1 0 0\n")
    (tmp_path / "mouse.yaml").write_text(SKELETON)
    found = convert("yolo-pose", folder, "--skeleton", str(tmp_path / "mouse.yaml"))
    assert joints_of(found) == [[50, 15, 2, 0, 0, 0, 0, 0, 0]]
    assert found["categories"][0]["keypoints"] == ["right_ear", "left_ear", "nose"]


def test_yolo_pose_with_other_joints_for_each_class(convert: Convert, tmp_path: Path) -> None:
    """Labels with a byte order mark, and labels of no image."""
    folder = Path(shutil.copytree(FIXTURES / "yolo", tmp_path / "yolo"))
    data = (folder / "data.yaml").read_text().partition("kpt_names")[0]
    names = "kpt_names: {0: [nose, left_ear, right_ear], 2: [snout, tail, paw]}\n"
    (folder / "data.yaml").write_text(data + names)
    labels = folder / "labels" / "val" / "a.txt"
    labels.write_text(labels.read_text(), encoding="utf-8-sig")
    for name in ("gone", "classes"):
        (labels.parent / f"{name}.txt").touch()
    found = convert("yolo-pose", folder, "--split", "val")
    assert joints_of(found)[0] == [50, 15, 2, 45, 12.5, 1, 0, 0, 0]
    assert [c["keypoints"] for c in found["categories"]] == [
        ["nose", "left_ear", "right_ear"],
        ["snout", "tail", "paw"],
    ]
    assert "mouse (3 joints, 1 of them without a label), rat (3 joints)" in found["printed"]
    assert "left out: 1 files of labels without an image" in found["printed"]


def test_a_joint_that_nobody_shows_is_still_a_joint(convert: Convert, tmp_path: Path) -> None:
    """Without the task's list of labels, too, which some exports lack."""
    text = (FIXTURES / "cvat.xml").read_text()
    before, rest = text.split("<meta>")
    (tmp_path / "cvat.xml").write_text(before + rest.partition("</meta>")[2])
    found = convert("cvat", tmp_path / "cvat.xml")
    assert sorted(found["categories"][0]["keypoints"]) == ["left_ear", "nose", "right_ear"]


def test_cvat_skeletons(convert: Convert) -> None:
    found = convert("cvat", FIXTURES / "cvat.xml")
    assert joints_of(found) == [[50, 15, 2, 45, 12.5, 1, 0, 0, 0]]
    assert found["categories"][0]["keypoints"] == ["nose", "left_ear", "right_ear"]
    assert found["annotations"][0]["bbox"] == [44.25, 12.125, 6.5, 3.25]  # 1.3 times the joints
    assert [image["file_name"] for image in found["images"]] == ["walk/a.png", "walk/b.png"]
    assert "left out: 1 box labels" in found["printed"]


def test_label_studio_groups_joints_by_person(convert: Convert, tmp_path: Path) -> None:
    """By parentID, by the only rectangle around a joint, and by a relation."""
    (tmp_path / "a.png").touch()
    found = convert("label-studio", FIXTURES / "label_studio.json", "--images", str(tmp_path))
    assert joints_of(found) == [[50, 15, 2, 45, 12.5, 2], [80, 40, 2, 0, 0, 0]]
    first, turned = found["annotations"]
    assert first["bbox"] == [40, 10, 20, 20]
    assert turned["bbox"] == pytest.approx([79.35, 39.35, 1.3, 1.3])  # that of the joints
    assert [image["file_name"] for image in found["images"]] == ["a.png"]
    assert "left out: 1 tasks without annotation" in found["printed"]


def test_deeplabcut_with_several_animals(convert: Convert) -> None:
    found = convert("deeplabcut", FIXTURES / "deeplabcut")
    assert joints_of(found) == [
        [10.5, 12, 2, 20, 8, 2],
        [30, 32, 2, 0, 0, 0],
        [0, 0, 0, 25.25, 28, 2],
    ]
    assert [annotation["image_id"] for annotation in found["annotations"]] == [1, 1, 2]
    assert found["images"][1] == {
        **{"id": 2, "file_name": "labeled-data/box/img02.png"},
        **{"height": 40, "width": 60},
    }
    assert "left out: 1 body parts of no individual in CollectedData_ann.csv" in found["printed"]


@needs_sleap_io
def test_sleap_without_predictions(convert: Convert) -> None:
    found = convert("sleap", FIXTURES / "sleap" / "labels.slp")
    assert joints_of(found) == [
        [10, 12, 2, 20, 8, 2, 0, 0, 0],
        [30, 30, 2, 25, 28, 2, 35, 28, 2],
    ]
    assert [image["file_name"] for image in found["images"]] == ["frame_0.png", "frame_1.png"]
    assert "left out: 1 predicted instances" in found["printed"]


@pytest.mark.skipif(find_spec("sleap_io") is not None, reason="sleap-io is installed")
def test_without_sleap_io_the_error_says_what_to_install(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["import-data", "sleap", "x.slp", "-o", str(tmp_path / "data.json")]
    assert main(arguments) == 1
    assert "pip install 'vipnas[sleap]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("program", "source", "categories", "nose_xy"),
    [
        ("yolo-pose", "yolo", ("mouse", "rat"), [50, 15]),
        ("deeplabcut", "deeplabcut", None, [10.5, 12]),
    ],
)
def test_what_is_written_opens(
    convert: Convert,
    tmp_path: Path,
    program: str,
    source: str,
    categories: tuple[str, ...] | None,
    nose_xy: list[float],
) -> None:
    """In the order of the skeleton, with joints that the source lacks."""
    file = tmp_path / "skeleton.yaml"
    file.write_text(SKELETON.replace("right_ear, left_ear", "tail, right_ear, left_ear") + "\n")
    file.write_text(file.read_text().replace("[0.05,", "[0.05, 0.05,"))
    convert(program, FIXTURES / source, "--skeleton", str(file))
    data = read_coco(
        tmp_path / "data.json",
        FIXTURES / source,
        read_skeleton(file),
        Reading(categories=categories),
    )
    assert data.persons[0].keypoints_K3[3].tolist() == [*nose_xy, 2]


def _replaced(old: str, new: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1)

    return change


@pytest.mark.parametrize(
    ("program", "file", "change", "words"),
    [
        ("yolo-pose", "yolo/data.yaml", _replaced("[3, 3]", "3"), "kpt_shape: expected [joints,"),
        ("yolo-pose", "yolo/data.yaml", _replaced("kpt_names", "x"), "--skeleton NAME says what"),
        (
            "yolo-pose",
            "yolo/data.yaml",
            _replaced("images/val", "none"),
            "none, which does not exist",
        ),
        ("yolo-pose", "yolo/data.yaml", _replaced("left_ear", "nose"), "3 different names"),
        ("yolo-pose", "yolo/labels/val/a.txt", _replaced("0.3 2", "2"), "line 1: expected 14"),
        ("yolo-pose", "yolo/labels/val/a.txt", _replaced("0.3", "15"), "joint 0 (nose): expected"),
        ("yolo-pose", "yolo/labels/val/a.txt", _replaced("0.3 2", "0.3 7"), "visibility: expected"),
        ("yolo-pose", "yolo/labels/val/a.txt", _replaced("0 0.5", "1 0.5"), "class: expected one"),
        ("yolo-pose", "yolo/labels/val/a.txt", _replaced("0.3", "nan"), "expected fractions of"),
        ("cvat", "cvat.xml", _replaced("50.00,15.00", "1;2"), "nose: expected one point 'x,y'"),
        ("cvat", "cvat.xml", _replaced("</meta>", ""), "expected valid XML"),
        ("cvat", "cvat.xml", lambda _: "<annotations/>", "expected image elements, got none"),
        ("cvat", "cvat.xml", _replaced('width="100"', ""), "width: expected a number of pixels"),
        ("label-studio", "label_studio.json", lambda _: "{}", "expected a list of tasks"),
        ("label-studio", "label_studio.json", _replaced('"x": 50', '"x": "50"'), "'k1': x: expect"),
        ("label-studio", "label_studio.json", _replaced('"x": 45', '"x": 95'), "one rectangle"),
        ("label-studio", "label_studio.json", _replaced("left_ear", "nose"), "got several"),
        ("label-studio", "label_studio.json", _replaced("annotations", "x"), "JSON, not JSON-MIN"),
        ("cvat", "cvat.xml", _replaced("50.00", "201"), "a.png: nose: expected pixels of an im"),
        (
            *("deeplabcut", "deeplabcut/labeled-data/box/CollectedData_ann.csv"),
            *(
                _replaced("20,8", "20,1e12"),
                "expected pixels of an image of 60 x 40, got 20, 1e+12",
            ),
        ),
        (
            *("deeplabcut", "deeplabcut/labeled-data/box/CollectedData_ann.csv"),
            *(_replaced("20,8", "20"), "line 5: expected 8 numbers"),
        ),
        (
            *("deeplabcut", "deeplabcut/labeled-data/box/CollectedData_ann.csv"),
            *(_replaced("img01", "img03"), "img03.png: expected an image file"),
        ),
        (
            *("deeplabcut", "deeplabcut/labeled-data/box/CollectedData_ann.csv"),
            *(_replaced("img01", "img\0"), "expected an image file, got none (embedded null byte)"),
        ),
        (
            "yolo-pose",
            "yolo/data.yaml",
            _replaced("images/val", r'"\0"'),
            "expected valid YAML, got a syntax error (line 2: a null character)",
        ),
        (
            *("deeplabcut", "deeplabcut/labeled-data/box/CollectedData_ann.csv"),
            *(_replaced("coords", "likelihoods"), "expected the row 'coords'"),
        ),
    ],
)
def test_what_cannot_be_read_is_one_line(
    program: str,
    file: str,
    change: Callable[[str], str],
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    copy = Path(shutil.copytree(FIXTURES, tmp_path / "imports"))
    (copy / file).write_text(change((copy / file).read_text()))
    source = copy / Path(file).parts[0]
    assert main(["import-data", program, str(source), "-o", str(tmp_path / "data.json")]) == 1
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and words in line
    assert not (tmp_path / "data.json").exists()


def test_options_of_other_programs_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = str(tmp_path / "data.json")
    arguments = ["import-data", "deeplabcut", "x", "-o", written, "--split", "val"]
    assert main(arguments) == 1
    assert "--split: expected no such option for deeplabcut" in capsys.readouterr().err
    assert len(IMPORTERS) == 5
