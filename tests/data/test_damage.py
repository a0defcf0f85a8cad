"""Damage that decoders pass over is found, by file; what only looks like damage is not."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from vipnas.config.data import Augmentation
from vipnas.data.crops import decoding
from vipnas.data.crops.images import check_images, read_image, read_reduced
from vipnas.data.crops.jpeg import FRAMES, segments
from vipnas.data.crops.jpeg import SCAN as SCAN_CODE
from vipnas.data.crops.loader import TrainingCrops, training_batches
from vipnas.data.formats.coco import read_coco
from vipnas.data.formats.skeletons import COCO_17

END = b"\xff\xd9"


@pytest.fixture(autouse=True)
def _nothing_was_said() -> None:
    decoding._codecs_of_processes.clear()


def photograph(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    smooth = cv2.resize(rng.integers(0, 256, (12, 16, 3), np.uint8), (160, 120))
    return np.clip(smooth + rng.normal(0, 12, smooth.shape), 0, 255).astype(np.uint8)


def falling() -> np.ndarray:
    """Return a picture that gets darker to the right, in equal steps: zeros in a row of blocks."""
    row = 255 - np.arange(240, dtype=np.uint8)
    return np.dstack([np.repeat(row[None], 80, axis=0)] * 3)


def jpeg(picture: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", **options)
    return file.getvalue()


WHOLE = jpeg(photograph(), quality=90)
SCAN = WHOLE.index(b"\xff\xda") + 14
PROGRESSIVE = jpeg(photograph(), quality=90, progressive=True)


def zeroed(count: int) -> Callable[[int], bytes]:
    return lambda at: WHOLE[:at] + bytes(count) + WHOLE[at + count :]


def refusal(path: Path, data: bytes, reduction: int = 1) -> str:
    path.write_bytes(data)
    with pytest.raises(ValueError) as caught:
        read_reduced(path, reduction)
    return str(caught.value)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("reduction", [1, 2, 4, 8])
def test_a_jpeg_cut_in_the_middle_with_an_end_marker_is_named(
    tmp_path: Path, share: float, reduction: int, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cut.jpg"
    cut = WHOLE[: int(SCAN + share * (len(WHOLE) - SCAN))] + END
    assert refusal(path, cut, reduction) == (
        f"{path}: expected a whole image, got a damaged JPEG (premature end)"
    )
    assert check_images({1: path}).problems == {}  # only decoding shows it
    assert check_images({1: path}, decode=True).problems.keys() == {1}
    assert capfd.readouterr().err == ""  # libjpeg's own words name no file


@pytest.mark.parametrize("count", [16, 64, 200, 1000])
def test_zeroed_bytes_are_found_wherever_they_are(tmp_path: Path, count: int) -> None:
    """Decoders pass over many of these without any message."""
    path = tmp_path / "zeroed.jpg"
    for at in np.linspace(SCAN, len(WHOLE) - count - 8, 12).astype(int).tolist():
        assert "got a damaged JPEG (" in refusal(path, zeroed(count)(at))


@pytest.mark.parametrize(
    "marker, skipped, reason",
    [
        (b"\xff\xdb", 10, "a quantisation step of 0"),
        (b"\xff\xc4", 140, "a symbol with two Huffman codes"),
    ],
)
@pytest.mark.parametrize("count", [2, 30])
def test_zeros_in_the_tables_are_found(
    tmp_path: Path, marker: bytes, skipped: int, reason: str, count: int
) -> None:
    """libjpeg decodes with what is left of the tables, and says nothing."""
    path = tmp_path / "zeroed.jpg"
    at = WHOLE.rindex(marker) + skipped
    assert refusal(path, zeroed(count)(at)).endswith(f"got a damaged JPEG ({reason})")


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.5, 0.7, 0.9])
def test_zeros_in_any_scan_of_a_progressive_jpeg_are_found(tmp_path: Path, share: float) -> None:
    """The first scan has the means of blocks, later ones have coefficients and their last bits."""
    at, count = int(share * len(PROGRESSIVE)) + 200, len(PROGRESSIVE) // 20
    data = PROGRESSIVE[:at] + bytes(count) + PROGRESSIVE[at + count :]
    assert "got a damaged JPEG (" in refusal(tmp_path / "zeroed.jpg", data)


@pytest.mark.parametrize(
    "data",
    [
        WHOLE[:-2] + bytes(40) + END,  # padding before the end marker
        WHOLE[:-2] + b"\xff" * 9 + END,
        WHOLE + bytes(5000),
        WHOLE[:2] + b"\xff" * 3 + WHOLE[2:],  # fill bytes before a marker
        jpeg(photograph(), progressive=True),
        jpeg(photograph(), optimize=True),
        jpeg(photograph(), restart_marker_blocks=3),
        jpeg(np.full((400, 600, 3), 128, np.uint8), optimize=True),  # all zeros, by its own tables
        jpeg(np.full((400, 600), 255, np.uint8), optimize=True),
        jpeg(photograph()[..., 0]),
        jpeg(np.full((400, 600, 3), 128, np.uint8), progressive=True),  # flat: zeros in each scan
        jpeg(falling(), progressive=True, quality=50),
        jpeg(falling(), optimize=True, quality=50),
    ],
    ids=lambda data: f"{len(data)} bytes",
)
def test_whole_jpegs_are_read(tmp_path: Path, data: bytes, caplog: Any) -> None:
    path = tmp_path / "whole.jpg"
    path.write_bytes(data)
    with Image.open(path) as image:
        expected = np.asarray(image.convert("RGB"))
    assert np.array_equal(read_image(path), expected)
    assert check_images({1: path}, {1: expected.shape[:2]}, decode=True).problems == {}


def test_a_harmless_message_names_the_file_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.jpg", "b.jpg"):
        path = tmp_path / name
        path.write_bytes(WHOLE[:20] + b"junk" + WHOLE[20:])
        assert read_image(path).shape == (120, 160, 3)
    assert [record.message.partition(" (logged")[0] for record in caplog.records] == [
        f"{tmp_path / 'a.jpg'}: Corrupt JPEG data: 4 extraneous bytes before marker 0xdb"
    ]
    assert capfd.readouterr().err == ""


def test_damage_of_other_formats_is_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    png = bytes(cv2.imencode(".png", photograph())[1])
    middle = len(png) // 2
    message = refusal(tmp_path / "a.png", png[:middle] + bytes(40) + png[middle + 40 :])
    assert message.startswith(
        f"{tmp_path / 'a.png'}: expected an image, got a file that cannot be decoded (libpng"
    )
    tiff = bytes(cv2.imencode(".tiff", photograph())[1])
    message = refusal(tmp_path / "a.tiff", tiff[:middle] + bytes(400) + tiff[middle + 400 :])
    assert message.startswith(f"{tmp_path / 'a.tiff'}: expected a whole image, got a damaged one (")
    assert capfd.readouterr().err == ""


def test_a_size_beyond_the_limit_is_one_line(tmp_path: Path) -> None:
    header = b"P6 100000 100000 255\n"
    message = refusal(tmp_path / "huge.ppm", header + bytes(100))
    assert message.startswith(
        f"{tmp_path / 'huge.ppm'}: expected an image, got a file that cannot be decoded"
    )
    assert "\n" not in message


def test_a_closed_stderr_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "cut.jpg"
    path.write_bytes(WHOLE[: len(WHOLE) // 2] + END)
    stderr = os.dup(2)
    os.close(2)
    try:
        with pytest.raises(ValueError, match="a damaged JPEG"):
            read_image(path)
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}], ids=str)
def test_zeros_at_the_end_of_a_header_change_no_picture(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    """Of the frame's or of any scan's: an error, unless the picture is the same without them."""
    data = jpeg(photograph()[:48, :64], quality=90, **options)
    (tmp_path / "whole.jpg").write_bytes(data)
    whole, num_refused = read_image(tmp_path / "whole.jpg"), 0
    for code, first, last in segments(data):
        if code not in FRAMES | {SCAN_CODE}:
            continue
        for count in range(1, last - first + 1):
            (tmp_path / "a.jpg").write_bytes(data[: last - count] + bytes(count) + data[last:])
            try:
                assert np.array_equal(read_image(tmp_path / "a.jpg"), whole)
            except ValueError as error:
                assert str(tmp_path / "a.jpg") in str(error)
                num_refused += 1
    assert num_refused >= 20


def test_threads_that_are_the_first_have_the_same_codecs(monkeypatch: pytest.MonkeyPatch) -> None:
    """With codecs of their own, one would hear what the other's picture is warned of."""
    both = Barrier(2)

    class Slow(decoding._Codecs):
        def __init__(self) -> None:
            both.wait(timeout=5)
            super().__init__()

    monkeypatch.setattr(decoding, "_Codecs", Slow)
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(lambda _: decoding._codecs(-1), range(2))
    del decoding._codecs_of_processes[-1]
    assert one is other


def test_threads_do_not_hear_each_other(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.jpg" for number in range(40)]
    for number, path in enumerate(paths):
        path.write_bytes(WHOLE if number % 2 else WHOLE[: len(WHOLE) // 2] + END)

    def is_whole(path: Path) -> bool:
        return not check_images({1: path}, decode=True).problems

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(is_whole, paths)) == [bool(n % 2) for n in range(40)]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_training_names_the_damaged_file(tiny_coco: Any, num_workers: int) -> None:
    data = read_coco(tiny_coco.write(), tiny_coco.image_root, COCO_17)
    path = tiny_coco.image_path(3)
    path.write_bytes(path.read_bytes()[:-200] + END)
    crops = TrainingCrops(data.persons, COCO_17, (64, 48), Augmentation(), 0)
    with pytest.raises(ValueError, match=rf"{path}: .* got a damaged JPEG \(premature end"):
        list(training_batches(crops, 4, 0, 3, num_workers))
