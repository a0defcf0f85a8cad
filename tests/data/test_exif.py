"""Images that their EXIF orientation turns: as OpenCV reads them, and as they are stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from vipnas.config.data import Data, PoseFiles
from vipnas.data.crops.crops import fixed_crops
from vipnas.data.crops.headers import Header, read_header
from vipnas.data.crops.images import check_images, image_size, read_image, read_reduced
from vipnas.data.formats.coco import PoseData, read_coco
from vipnas.data.formats.reading import Reading
from vipnas.data.formats.skeletons import COCO_17
from vipnas.files import parse

STORED_HW = (40, 50)


def write(path: Path, orientation: int, stored_hw: tuple[int, int] = STORED_HW) -> Path:
    exif = Image.Exif()
    exif[0x0112] = orientation
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (4, 5, 3), np.uint8))
    small.resize(stored_hw[::-1]).save(path, exif=exif)
    return path


def upright(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image))


def stored(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("orientation", [*range(1, 9), 0, 9])
def test_every_orientation_is_that_of_pillow(tmp_path: Path, suffix: str, orientation: int) -> None:
    path = write(tmp_path / f"a{suffix}", orientation)
    assert np.array_equal(read_image(path), upright(path))
    assert np.array_equal(read_image(path, STORED_HW, ignore_exif=True), stored(path))
    header = read_header(path.read_bytes()[:4096])
    assert header == Header(STORED_HW, orientation if orientation in range(1, 9) else 1)
    assert image_size(path) == header.turned_hw == upright(path).shape[:2]
    assert image_size(path, ignore_exif=True) == STORED_HW
    reduced, reduction = read_reduced(path, 2, STORED_HW, ignore_exif=True)
    assert reduced.shape[:2] == (40 // reduction, 50 // reduction)


def test_an_orientation_after_the_picture_counts(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", 6, (200, 300))
    data = path.read_bytes()
    start = data.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(data[start : start + 4], "big")
    path.write_bytes(data[:start] + data[end:-12] + data[start:end] + data[-12:])
    assert cv2.imread(str(path)).shape == read_image(path).shape == (300, 200, 3)
    assert check_images({1: path}, {1: (300, 200)}).problems == {}


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0MM\0*\0\0\0\x08\0\1\x01\x12\0\3\x08\0\0\1\0\6\0\0\0\0\0\0",  # a huge count
        b"Exif\0\0M\1\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0",
    ],
)
def test_header_and_picture_agree_on_malformed_blocks(tmp_path: Path, exif: bytes) -> None:
    path = tmp_path / "a.jpg"
    Image.new("RGB", (50, 40)).save(path, exif=exif)
    assert image_size(path) == read_image(path).shape[:2]


@pytest.mark.parametrize("exif", [b"", b"Exif\0\0", b"Exif\0\0MM\0*\0\0\xff\xff", b"Exif\0\0junk"])
def test_an_exif_block_that_says_nothing_turns_nothing(tmp_path: Path, exif: bytes) -> None:
    path = tmp_path / "a.jpg"
    Image.new("RGB", (50, 40)).save(path, exif=exif)
    assert read_header(path.read_bytes()) == Header(STORED_HW, 1)
    assert read_image(path).shape[:2] == STORED_HW


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_size_that_is_that_of_the_stored_image_says_so(tmp_path: Path, orientation: int) -> None:
    path = write(tmp_path / "a.jpg", orientation)
    expected = (
        f"{path}: expected 50 x 40 pixels as in the annotation file, got 40 x 50 (without EXIF"
        f" orientation {orientation} it is as expected: set `exif: ignore` in the experiment's data"
        " section to read images as stored)"
    )
    assert check_images({1: path}, {1: STORED_HW}).problems == {1: expected}
    with pytest.raises(ValueError) as caught:
        read_image(path, STORED_HW)
    assert str(caught.value) == expected
    assert check_images({1: path}, {1: STORED_HW}, ignore_exif=True).problems == {}
    (other,) = check_images({1: path}, {1: (50, 40)}, ignore_exif=True).problems.values()
    assert "(with EXIF orientation" in other and "remove `exif: ignore`" in other
    assert "EXIF" not in check_images({1: path}, {1: (40, 51)}).problems[1]  # nothing to do with it


def test_a_long_exif_block_hides_no_size(tmp_path: Path) -> None:
    """The size of a JPEG with EXIF was not looked at before it was decoded."""
    exif = Image.Exif()
    exif[0x0112] = 1
    exif[0x9286] = b"x" * 20_000  # longer than the part that is read first
    path = tmp_path / "a.jpg"
    Image.new("RGB", (50, 40)).save(path, exif=exif)
    assert check_images({1: path}, {1: STORED_HW}).problems == {}
    assert "expected 50 x 41" in check_images({1: path}, {1: (41, 50)}).problems[1]


def read(tiny_coco: Any, ignore_exif: bool = False) -> PoseData:
    return read_coco(
        tiny_coco.write(), tiny_coco.image_root, COCO_17, Reading(ignore_exif=ignore_exif)
    )


def test_labels_of_an_upside_down_image_are_in_doubt(
    tiny_coco: Any, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tiny_coco.image_path(2), 3, (60, 80))
    turned = read(tiny_coco)
    (record,) = caplog.records
    assert f"1 images have an EXIF orientation that does not change their size, such as {path}" in (
        record.message
    )
    assert "`exif: ignore`" in record.message
    caplog.clear()
    as_stored = read(tiny_coco, ignore_exif=True)
    assert caplog.records == []
    for data, image in ((turned, upright(path)), (as_stored, stored(path))):
        person = next(p for p in data.persons if p.image_path == path)
        (crop,) = fixed_crops([person], COCO_17, (64, 48)).images_B3HW
        plain = path.with_name("plain.png")
        Image.fromarray(image).save(plain)
        plain_person = type(person)(**{**vars(person), "image_path": plain})
        (expected,) = fixed_crops([plain_person], COCO_17, (64, 48)).images_B3HW
        assert crop.equal(expected)


def test_images_on_their_side_settle_the_doubt(
    tiny_coco: Any, caplog: pytest.LogCaptureFixture
) -> None:
    write(tiny_coco.image_path(2), 3, (60, 80))
    write(tiny_coco.image_path(3), 6, (80, 60))  # whose size is that of the turned image
    read(tiny_coco)
    assert caplog.records == []


def test_the_experiment_says_exif_ignore() -> None:
    files: dict[str, Any] = {"annotations": "a.json", "images": "images"}
    found = parse(Data, {"train": files, "test": files, "exif": "ignore"}, "data")
    assert found == Data(train=PoseFiles(**files), test=PoseFiles(**files), exif="ignore")
    with pytest.raises(ValueError, match="exif"):
        parse(Data, {"train": files, "test": files, "exif": "apply it"}, "data")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpg", "png", "tiff", "webp"])
def test_every_format_is_turned_or_as_stored(tmp_path: Path, kind: str, orientation: int) -> None:
    """OpenCV turns a TIFF whatever it is asked for."""
    stored = np.zeros((48, 64, 3), np.uint8)
    stored[:16, :16], stored[32:, :32] = 255, (0, 200, 0)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{kind}"
    options: dict[str, Any] = {"lossless": True} if kind == "webp" else {}
    Image.fromarray(stored).save(path, exif=exif.tobytes(), **options)
    assert np.abs(read_image(path, ignore_exif=True).astype(int) - stored).mean() < 1
    turned = read_image(path)
    assert np.abs(turned.astype(int) - _turned(stored, orientation)).mean() < 1
    assert image_size(path) == turned.shape[:2]
    checks = check_images({1: path}, {1: turned.shape[:2]})
    assert checks.problems == {} and bool(checks.turned) == (orientation != 1)


def _turned(stored: np.ndarray, orientation: int) -> np.ndarray:
    """As Pillow turns it."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(stored)
    image.info["exif"] = exif.tobytes()
    return np.asarray(ImageOps.exif_transpose(image))
