from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from vipnas.data.crops.images import check_images, image_size, read_image


def picture() -> np.ndarray:
    rng = np.random.default_rng(0)
    return cv2.resize(rng.integers(0, 256, (4, 5, 3), np.uint8), (50, 40))


def encoded(extension: str, *options: int) -> bytes:
    return bytes(cv2.imencode(extension, picture(), options)[1])


def with_thumbnail(jpeg: bytes) -> bytes:
    """The JPEG with a whole small JPEG, end marker and all, in its EXIF segment."""
    thumbnail = bytes(cv2.imencode(".jpg", picture()[:8, :8])[1])
    segment = b"Exif\0\0" + thumbnail
    return jpeg[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + jpeg[2:]


WHOLE = {
    "plain.jpg": encoded(".jpg"),
    "progressive.jpg": encoded(".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "thumbnail.jpg": with_thumbnail(encoded(".jpg")),
    "padded.jpg": encoded(".jpg") + b"\0" * 10_000,
    "film.jpg": encoded(".jpg") + b"MotionPhoto" + bytes(range(256)) * 40,
    "plain.png": encoded(".png"),
    "plain.bmp": encoded(".bmp"),
}


@pytest.mark.parametrize("name", WHOLE)
def test_whole_images_pass_and_are_rgb(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(WHOLE[name])
    assert check_images({7: path}).problems == {}
    image = read_image(path, (40, 50))
    assert np.abs(image.astype(int) - picture()[..., ::-1]).mean() < 12
    if name.endswith(("png", "bmp")):
        assert np.array_equal(image, picture()[..., ::-1])


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.99])
@pytest.mark.parametrize("name", ["plain.jpg", "progressive.jpg", "thumbnail.jpg", "plain.png"])
def test_cut_images_are_found_without_and_with_decoding(
    tmp_path: Path, name: str, share: float
) -> None:
    path = tmp_path / name
    path.write_bytes(WHOLE[name][: int(len(WHOLE[name]) * share)])
    problem = check_images({7: path}).problems[7]
    assert problem.startswith(str(path))
    kind = "PNG" if name.endswith("png") else "JPEG"
    assert problem.endswith(f"got {'an empty file' if share == 0 else f'a truncated {kind}'}")
    with pytest.raises(ValueError, match=name):
        read_image(path)


@pytest.mark.parametrize(
    "content",
    [b"hello", b"<html>404</html>", b"\0\0\0\x18ftypheic" + bytes(99), b"\xff\xd8\xff\xd9"],
)
def test_files_that_are_no_images_are_named_at_opening(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    expected = f"{path}: expected an image, got a file that cannot be decoded"
    assert check_images({7: path}).problems == {7: expected}


@pytest.mark.parametrize("kind", ["bmp", "gif", "tiff", "webp"])
def test_sizes_of_other_formats_are_checked_at_opening(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    Image.new("RGB", (50, 40)).save(path)
    assert check_images({7: path}, {7: (40, 50)}).problems == {}
    assert "got 50 x 40" in check_images({7: path}, {7: (50, 40)}).problems[7]


def test_missing_images_and_folders_are_named(tmp_path: Path) -> None:
    problems = check_images({1: tmp_path / "no.jpg", 2: tmp_path}).problems
    assert (
        problems[1]
        == f"{tmp_path / 'no.jpg'}: expected an image file, got none (No such file or directory)"
    )
    assert problems[2].startswith(str(tmp_path))
    with pytest.raises(ValueError, match=r"no\.jpg: expected an image file, .* \(No such file"):
        read_image(tmp_path / "no.jpg")


def test_what_is_no_image_is_found_when_it_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "page.jpg"
    path.write_text("<html>404</html>")
    with pytest.raises(ValueError, match=r"page\.jpg: expected an image, got a file that"):
        read_image(path)


def test_size_must_be_that_of_the_annotation_file(tmp_path: Path) -> None:
    path = tmp_path / "plain.jpg"
    path.write_bytes(WHOLE["plain.jpg"])
    with pytest.raises(
        ValueError, match=r"expected 40 x 50 pixels as in the annotation file, got 50 x 40"
    ):
        read_image(path, (50, 40))


@pytest.mark.parametrize("name", WHOLE)
def test_size_is_read_without_decoding_where_the_file_tells_it(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(WHOLE[name])
    assert image_size(path) == (40, 50)


def test_a_turned_photograph_has_the_size_it_is_read_with(tmp_path: Path) -> None:
    orientation = b"MM\0*\0\0\0\x08" + b"\0\1" + b"\x01\x12\0\3\0\0\0\1\0\6\0\0" + b"\0\0\0\0"
    segment = b"Exif\0\0" + orientation
    jpeg = encoded(".jpg")
    path = tmp_path / "turned.jpg"
    path.write_bytes(
        jpeg[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + jpeg[2:]
    )
    assert image_size(path) == read_image(path).shape[:2] == (50, 40)
    assert check_images({1: path}, {1: (50, 40)}).problems == {}
    assert "EXIF orientation 6" in check_images({1: path}, {1: (40, 50)}).problems[1]


@pytest.mark.parametrize("name", ["plain.jpg", "progressive.jpg", "plain.png"])
def test_another_size_is_found_without_decoding(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(WHOLE[name])
    assert check_images({3: path}, {3: (40, 50)}).problems == {}
    assert check_images({3: path}, {3: (50, 40)}).problems == {
        3: f"{path}: expected 40 x 50 pixels as in the annotation file, got 50 x 40"
    }


def test_the_size_of_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no\.jpg: expected an image file, .* \(No such file"):
        image_size(tmp_path / "no.jpg")
