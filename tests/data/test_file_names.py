"""File names that annotation tools write otherwise than the file system has them."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

import pytest

from vipnas.data.formats.coco import read_coco
from vipnas.data.formats.file_names import names_on_disk
from vipnas.data.formats.skeletons import COCO_17

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))


def make(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)


@pytest.mark.parametrize(
    ("written", "on_disk"),
    [
        ("a\\b\\1.jpg", "a/b/1.jpg"),
        ("my%20photo.jpg", "my photo.jpg"),
        ("my photo.jpg", "my%20photo.jpg"),
        (f"caf{COMPOSED}.jpg", f"caf{DECOMPOSED}.jpg"),
        (f"caf{DECOMPOSED}.jpg", f"caf{COMPOSED}.jpg"),
        (f"{DECOMPOSED}\\caf%C3%A9 1.jpg", f"{COMPOSED}/caf{DECOMPOSED} 1.jpg"),
        ("./a\\1.jpg", "a/1.jpg"),
    ],
)
def test_another_spelling_is_found(
    tmp_path: Path, written: str, on_disk: str, caplog: pytest.LogCaptureFixture
) -> None:
    make(tmp_path, on_disk, "other.jpg")
    found = names_on_disk([written, "other.jpg", "none.jpg"], tmp_path, "file.json")
    assert found == {written: on_disk}
    (record,) = caplog.records
    assert record.message == (
        f"file.json: 1 file names found in another spelling, such as {written!r} as "
        f"{tmp_path / on_disk}"
    )


def test_what_is_there_as_written_is_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = ["a b.jpg", "a%20b.jpg", f"{COMPOSED}.jpg", f"{DECOMPOSED}.jpg", "x\\y.jpg", "x/y.jpg"]
    make(tmp_path, *names)
    assert names_on_disk(names, tmp_path, "file.json") == {}
    assert caplog.records == []


def test_a_name_of_several_files_is_not_guessed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make(tmp_path, "a/é 1.jpg".replace("é", COMPOSED), "a/é 1.jpg".replace("é", DECOMPOSED))
    assert names_on_disk(["a/%C3%A9%201.jpg"], tmp_path, "file.json") == {}
    assert "fit several files in another spelling, such as 'a/%C3%A9%201.jpg'" in caplog.text


@pytest.mark.parametrize("written", ["../x.jpg", "%2e%2e/x.jpg", "..\\x.jpg", "/etc/x", ""])
def test_nothing_outside_of_the_folder_is_found(tmp_path: Path, written: str) -> None:
    make(tmp_path, "x.jpg", "images/y.jpg")
    assert names_on_disk([written], tmp_path / "images", "file.json") == {}


def test_persons_have_the_path_on_disk(tiny_coco: Any, caplog: pytest.LogCaptureFixture) -> None:
    images = tiny_coco.document["images"]
    folder = tiny_coco.image_root / "some where"
    folder.mkdir()
    for image in images:
        (tiny_coco.image_root / image["file_name"]).rename(folder / image["file_name"])
        image["file_name"] = f"some%20where\\{image['file_name']}"
    data = read_coco(tiny_coco.write(), tiny_coco.image_root, COCO_17)
    assert {person.image_path.parent for person in data.persons} == {folder}
    assert len(caplog.records) == 1
