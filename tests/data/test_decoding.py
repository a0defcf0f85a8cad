"""Numbers of more than 8 bits, alpha channels and other colour spaces become plain RGB."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from vipnas.data.crops import decoding
from vipnas.data.crops.images import read_image

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _nothing_was_said() -> None:
    decoding._codecs_of_processes.clear()


def write(path: Path, numbers: np.ndarray) -> Path:
    assert cv2.imwrite(str(path), numbers)
    return path


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [1, 3])
def test_twelve_bits_in_sixteen_are_scaled(
    tmp_path: Path, suffix: str, channels: int, caplog: pytest.LogCaptureFixture
) -> None:
    numbers = RNG.integers(0, 4096, (40, 50, channels), np.uint16)
    paths = [write(tmp_path / f"{name}{suffix}", numbers) for name in "ab"]
    expected = np.broadcast_to(numbers[..., ::-1] * (255 / 4095), (40, 50, 3))
    for path in paths:
        assert np.abs(read_image(path) - expected).max() <= 0.5 + 1e-9
    (record,) = caplog.records  # one warning, which names the first
    assert record.message.startswith(f"{paths[0]}: 16-bit values of at most 4095 are scaled")


def test_ten_and_fourteen_bits_are_scaled_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each with a warning: they would have other brightnesses in one data set."""
    for bits in (10, 14):
        numbers = RNG.integers(0, 1 << bits, (4, 5, 3), np.uint16)
        numbers[0, 0] = (1 << bits) - 1
        image = read_image(write(tmp_path / f"{bits}.png", numbers))
        assert np.abs(image - numbers[..., ::-1] * (255 / ((1 << bits) - 1))).max() <= 0.5 + 1e-9
    assert [record.message.split()[6] for record in caplog.records] == ["1023", "16383"]


@pytest.mark.parametrize("kind", ["P2", "P3", "P5", "P6"])
def test_the_highest_value_of_a_pnm_file_is_white(tmp_path: Path, kind: str) -> None:
    numbers = RNG.integers(0, 16, (4, 5, 1 if kind in ("P2", "P5") else 3), np.uint8)
    plain = " ".join(map(str, numbers.ravel())).encode() + b"\n"
    pixels = plain if kind in ("P2", "P3") else numbers.tobytes()
    path = tmp_path / f"a.{'pgm' if kind in ('P2', 'P5') else 'ppm'}"
    path.write_bytes(kind.encode() + b"\n# by hand\n5 4\n15\n" + pixels)
    assert np.array_equal(read_image(path), np.broadcast_to(numbers * 17, (4, 5, 3)))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("suffix", [".tiff", ".pfm"])
def test_floating_point_values_from_0_to_1_are_scaled(
    tmp_path: Path, suffix: str, channels: int, caplog: pytest.LogCaptureFixture
) -> None:
    numbers = RNG.random((4, 5, channels), np.float32)
    path = write(tmp_path / f"a{suffix}", numbers)
    assert np.abs(read_image(path) - numbers[..., ::-1] * 255).max() <= 0.5 + 1e-4
    assert f"{path}: floating point values from 0 to 1 are scaled" in caplog.text
    for value, found in ((200, "0 to 200"), (-1, "-1 to 0"), (np.nan, "nan to nan")):
        numbers[:] = 0
        numbers[0, 0] = value
        write(path, numbers)
        with pytest.raises(ValueError, match=f"{path.name}: .*from 0 to 1, got {found}$"):
            read_image(path)


@pytest.mark.parametrize("kind", [np.int16, np.int32])
def test_values_with_a_sign_have_no_known_range(tmp_path: Path, kind: type) -> None:
    path = write(tmp_path / "a.tiff", np.full((4, 5), 99, kind))
    with pytest.raises(ValueError, match=r"a\.tiff: expected 8 or 16 bits without sign, got int"):
        read_image(path)


def test_eight_bits_in_sixteen_are_taken_as_they_are(tmp_path: Path) -> None:
    numbers = RNG.integers(0, 256, (40, 50), np.uint16)
    path = write(tmp_path / "a.png", numbers)
    assert np.array_equal(read_image(path), np.dstack([numbers] * 3))


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_sixteen_bits_lose_their_lower_half(
    tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    eight = RNG.integers(0, 256, (40, 50, 3), np.uint8)
    path = write(tmp_path / f"a{suffix}", eight.astype(np.uint16) * 257)
    assert np.array_equal(read_image(path), eight[..., ::-1])
    black = write(tmp_path / f"black{suffix}", np.zeros((4, 5), np.uint16))
    assert not read_image(black).any()
    assert caplog.records == []


def with_alpha(path: Path, alpha: np.ndarray, orientation: int = 1) -> tuple[Path, np.ndarray]:
    colours = RNG.integers(0, 256, (*alpha.shape, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.dstack((colours, alpha))).save(path, exif=exif, lossless=True)
    return path, colours


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_what_is_transparent_is_black(
    tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    alpha = np.full((40, 50), 255, np.uint8)
    alpha[:, :20], alpha[:, 20:30] = 0, 128
    path, colours = with_alpha(tmp_path / f"a{suffix}", alpha)
    image = read_image(path)
    assert not image[:, :20].any()
    assert np.abs(image[:, 20:30] - colours[:, 20:30] * (128 / 255)).max() <= 0.5 + 1e-9
    assert np.array_equal(image[:, 30:], colours[:, 30:])
    assert f"{path}: transparent pixels are shown black" in caplog.text


@pytest.mark.parametrize("declared", [True, False])
def test_a_tiff_is_shown_over_black_once(tmp_path: Path, declared: bool) -> None:
    alpha = np.full((40, 50), 128, np.uint8)
    path, colours = with_alpha(tmp_path / "a.tiff", alpha)
    if not declared:  # OpenCV writes none of the tags that say what the fourth channel is
        write(path, np.dstack((colours[..., ::-1], alpha)))
    assert np.abs(read_image(path) - colours * (128 / 255)).max() <= 1


def test_the_alpha_of_a_grey_tiff_is_applied(tmp_path: Path) -> None:
    alpha = np.full((40, 50), 128, np.uint8)
    grey = RNG.integers(0, 256, alpha.shape, np.uint8)
    Image.fromarray(np.dstack((grey, alpha)), "LA").save(tmp_path / "a.tiff")
    expected = np.broadcast_to(grey[..., None] * (128 / 255), (40, 50, 3))
    assert np.abs(read_image(tmp_path / "a.tiff") - expected).max() <= 0.5 + 1e-9


def test_an_alpha_channel_that_cannot_be_read_is_said_to_be_ignored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Grey and alpha of 16 bits in a TIFF, which neither OpenCV nor Pillow reads whole."""
    stored = RNG.integers(0, 65536, (40, 50, 2), np.uint16)
    tags = [(256, 50), (257, 40), (258, 16 | 16 << 16), (259, 1), (262, 1), (273, 134)]
    tags += [(277, 2), (278, 40), (279, stored.nbytes), (338, 2)]
    rows = [
        struct.pack("<HHII", tag, 3 if tag == 258 else 4, 1 + (tag == 258), value)
        for tag, value in tags
    ]
    file = b"II*\0" + struct.pack("<IH", 8, len(tags)) + b"".join(rows) + bytes(4)
    assert len(file) == 134
    (tmp_path / "a.tiff").write_bytes(file + stored.tobytes())
    grey = np.broadcast_to(stored[..., :1] / 257, (40, 50, 3))
    assert np.abs(read_image(tmp_path / "a.tiff") - grey).max() <= 1
    [record] = caplog.records
    assert record.getMessage().startswith(f"{tmp_path / 'a.tiff'}: its alpha channel is ignored")


def test_an_opaque_alpha_channel_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, colours = with_alpha(tmp_path / "a.png", np.full((40, 50), 255, np.uint8))
    assert np.array_equal(read_image(path), colours)
    assert caplog.records == []


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_alpha_channel_turns_with_its_picture(tmp_path: Path, orientation: int) -> None:
    alpha = np.where(RNG.random((40, 50)) < 0.5, 0, 255).astype(np.uint8)
    path, colours = with_alpha(tmp_path / "a.png", alpha, orientation)
    stored = np.where(alpha[..., None] == 255, colours, 0)
    assert np.array_equal(read_image(path, ignore_exif=True), stored)
    with Image.open(path) as image:
        turned = np.asarray(ImageOps.exif_transpose(image))
    expected = np.where(turned[..., 3:] == 255, turned[..., :3], 0)
    assert np.array_equal(read_image(path), expected)


def test_a_transparent_colour_of_a_palette_is_black(tmp_path: Path) -> None:
    image = Image.new("P", (50, 40), 1)
    image.putpalette([10, 20, 30, 200, 150, 100])
    image.paste(0, (0, 0, 25, 40))
    image.save(tmp_path / "a.png", transparency=0)
    found = read_image(tmp_path / "a.png")
    assert not found[:, :25].any()
    assert np.array_equal(found[:, 25:], np.full((40, 25, 3), (200, 150, 100)))


def test_lab_becomes_rgb(tmp_path: Path) -> None:
    rows = ((200, 60, 50), (60, 128, 60), (70, 80, 190)), ((9,) * 3, (250,) * 3, (128,) * 3)
    colours = np.array(rows, np.uint8)
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    lab = ImageCms.profileToProfile(Image.fromarray(colours), *profiles, outputMode="LAB")
    assert lab is not None
    lab.save(tmp_path / "lab.tiff")
    assert np.abs(read_image(tmp_path / "lab.tiff").astype(int) - colours).max() <= 3


def test_a_colour_space_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.new("RGB", (50, 40)).save(file, "TIFF", tiffinfo={262: 9})  # ICC L*a*b*
    (tmp_path / "lab.tiff").write_bytes(file.getvalue())
    with pytest.raises(ValueError, match=r"lab\.tiff: .*PhotometricInterpretation=9"):
        read_image(tmp_path / "lab.tiff")
