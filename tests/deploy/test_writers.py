"""What is written can be read back, and is kept whatever ends the run."""

from __future__ import annotations

import csv
import errno
import importlib.util
import json
import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from vipnas.data.formats.posetrack import read_posetrack
from vipnas.data.formats.results import read_results
from vipnas.data.formats.skeletons import COCO_17
from vipnas.deploy.encoders import fitted
from vipnas.deploy.sources import SourceFrame, open_source
from vipnas.deploy.writers import FramePoses, Writer, open_writer, open_writers
from vipnas.errors import UserError

HW = (40, 62)


def found(index: int, num_persons: int = 2, tracked: bool = True, **frame: Any) -> FramePoses:
    """Numbers that tell frame, person and joint; a picture that tells the frame."""
    name = f"clip/{index:06d}"
    picture_bgr = np.full((*HW, 3), 10 * index % 250, np.uint8)
    picture_bgr[:, :20] = (0, 0, 250)
    facts = {"file_name": f"{name}.jpg", "name": name} | frame
    numbers = np.arange(num_persons * 17 * 2, dtype=np.float64).reshape(num_persons, 17, 2)
    keypoints = 100.0 * index + numbers / 8
    scores = np.full((num_persons, 17), 0.5, np.float32)
    boxes = np.array([(1.0, 2, 31, 32)] * num_persons).reshape(num_persons, 4)
    ids = np.arange(num_persons) + 7 if tracked else None
    frame_ = SourceFrame(index, index / 20, picture_bgr[..., ::-1], **facts)
    return FramePoses(frame_, keypoints, scores, boxes, ids, picture_bgr)


def write(writer: Writer, num_frames: int, **facts: Any) -> None:
    with writer:
        for index in range(num_frames):
            writer.write(found(index, **facts))


def grey_levels(path: Path) -> list[int]:
    """Of each frame, where it is grey; the red is checked."""
    frames = [frame.image for frame in open_source(path)]
    assert all(frame[20, 8] == pytest.approx((250, 0, 0), abs=12) for frame in frames)
    return [int(frame[20, 50, 1]) for frame in frames]


def below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
@pytest.mark.parametrize("fps", [20.0, 29.97])
def test_a_drawn_video_is_read_back(
    tmp_path: Path, suffix: str, fps: float, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "new" / f"out{suffix}"
    writer = open_writer(path, COCO_17, fps=fps)
    assert writer.draws
    write(writer, 15)
    assert grey_levels(path) == pytest.approx(np.arange(15) * 10, abs=8)
    source = open_source(path)
    assert source.fps == pytest.approx(fps, abs=0.01) and source.image_hw == HW
    assert below(tmp_path) == {f"new/out{suffix}"}
    assert capfd.readouterr() == ("", "")


def test_h264_is_written_by_pyav(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="PyAV is not installed: pip install 'vipnas[h264]'")
    path = tmp_path / "out.mp4"
    write(open_writer(path, COCO_17, fps=29.97, codec="h264"), 15)
    assert grey_levels(path) == pytest.approx(np.arange(15) * 10, abs=8)
    capture = cv2.VideoCapture(str(path))
    assert int(capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little") in (b"h264", b"avc1")
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(29.97, abs=0.01)


def test_h264_without_pyav_is_told_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"expected PyAV.* 'vipnas\[h264\]', .* under the GPL"):
        open_writer(tmp_path / "out.mp4", COCO_17, codec="h264")


def test_odd_sides_lose_nothing_and_other_sizes_fit_inside() -> None:
    picture = np.arange(5 * 3 * 3, dtype=np.uint8).reshape(5, 3, 3)
    even = fitted(picture, (6, 4))
    assert np.array_equal(even[:5, :3], picture)
    assert np.array_equal(even[5, :3], picture[4]) and np.array_equal(even[:5, 3], picture[:, 2])
    wide = fitted(np.full((10, 40, 3), 200, np.uint8), (20, 20))
    assert (wide[:7] == 0).all() and (wide[8:12] == 200).all() and (wide[13:] == 0).all()
    assert fitted(picture, (5, 3)) is picture


def test_frames_that_a_live_source_dropped_leave_no_gap(tmp_path: Path) -> None:
    with open_writer(tmp_path / "out.mp4", COCO_17) as writer:
        for index in (3, 4, 8):
            writer.write(found(index))
    assert grey_levels(tmp_path / "out.mp4") == pytest.approx([30, 40, 80, 80, 80, 80], abs=8)
    assert writer.num_frames == 3


def test_pictures_are_named_by_their_frames(tmp_path: Path) -> None:
    write(open_writer(tmp_path / "out", COCO_17), 3)
    assert below(tmp_path) == {f"out/clip/00000{n}.png" for n in range(3)}
    picture = cv2.imread(str(tmp_path / "out" / "clip" / "000002.png"))
    expected = found(2).picture_bgr
    assert picture is not None and expected is not None
    assert np.array_equal(picture, expected)


def test_equal_names_of_a_source_have_pictures_of_their_own(tmp_path: Path) -> None:
    for name in ("in/a/x.jpg", "in/a/x.png", "in/b/x.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / name), np.zeros((20, 20, 3), np.uint8))
    source = open_source(tmp_path / "in")
    with open_writer(tmp_path / "out", COCO_17, source.files) as writer:
        for frame in source:
            writer.write(found(0, file_name=frame.file_name, name=frame.name))
    assert below(tmp_path / "out") == {"a/x.jpg.png", "a/x.png.png", "b/x.jpg.png"}


def test_no_image_of_the_source_is_overwritten(tmp_path: Path) -> None:
    image = tmp_path / "in" / "x.png"
    image.parent.mkdir()
    cv2.imwrite(str(image), np.zeros((20, 20, 3), np.uint8))
    before = image.read_bytes()
    with (
        pytest.raises(ValueError, match=r"x\.png: expected a new file, got one of the source"),
        open_writer(tmp_path / "in", COCO_17, [image]) as writer,
    ):
        writer.write(found(0, file_name="x.png", name="x"))
    assert image.read_bytes() == before


@pytest.mark.parametrize("name", ["clip.mp4", "./clip.mp4", "link.mp4"])
def test_a_video_is_not_overwritten_by_its_drawing(tmp_path: Path, name: str) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"video")
    (tmp_path / "link.mp4").symlink_to(tmp_path / "clip.mp4")
    with pytest.raises(ValueError, match="expected another file than the source, got the source"):
        open_writer(tmp_path / name, COCO_17, [tmp_path / "clip.mp4"])
    assert (tmp_path / "clip.mp4").read_bytes() == b"video"


@pytest.mark.parametrize("num_persons", [0, 1, 2])
def test_coco_results_are_read_back(tmp_path: Path, num_persons: int) -> None:
    path = tmp_path / "poses.json"
    ids = {0: 11, 1: 12, 2: 13}
    writer = open_writer(path, COCO_17, image_id_of=lambda frame: ids[frame.index])
    write(writer, 3, num_persons=num_persons)
    results = read_results(path, COCO_17)
    assert len(results) == 3 * num_persons
    for number, entry in enumerate(results):
        index, person = divmod(number, num_persons)
        wanted = found(index, num_persons)
        assert (entry["image_id"], entry["category_id"]) == (ids[index], 1)
        assert (entry["track_id"], entry["score"]) == (7 + person, 0.5)
        assert entry["file_name"] == f"clip/{index:06d}.jpg"
        joints = np.reshape(entry["keypoints"], (17, 3))
        assert np.array_equal(joints[:, :2], wanted.keypoints[person])
        assert (joints[:, 2] == 0.5).all()


def test_coco_results_of_frames_without_persons_in_between(tmp_path: Path) -> None:
    with open_writer(tmp_path / "poses.json", COCO_17) as writer:
        for index, num_persons in enumerate((0, 2, 0, 1)):
            writer.write(found(index, num_persons, tracked=False))
    results = json.loads((tmp_path / "poses.json").read_text())
    assert [entry["image_id"] for entry in results] == [1, 1, 3]
    assert "track_id" not in results[0]


def test_posetrack_form_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "tracks.json"
    write(open_writer(path, COCO_17, json_form="posetrack18"), 3)
    for index in range(3):
        (tmp_path / "clip").mkdir(exist_ok=True)
        picture = found(index).picture_bgr
        assert picture is not None
        cv2.imwrite(str(tmp_path / f"clip/{index:06d}.jpg"), picture)
    (video,) = read_posetrack(path, tmp_path, COCO_17).videos
    assert (video.name, len(video.frames)) == ("clip", 3)
    for index, frame in enumerate(video.frames):
        assert (frame.number, frame.image_hw) == (index, HW)
        assert [person.track_id for person in frame.people] == [7, 8]
        for number, person in enumerate(frame.people):
            wanted = found(index).keypoints[number]
            assert np.allclose(person.keypoints_K3[:, :2], wanted, atol=1e-3)
            assert person.box_xywh == (1, 2, 30, 30)
    (category,) = json.loads(path.read_text())["categories"]
    assert tuple(category["keypoints"]) == COCO_17.joints
    with pytest.raises(ValueError, match="PoseTrack18: expected track ids, got none"):
        write(open_writer(path, COCO_17, json_form="posetrack18"), 1, tracked=False)


def test_csv_has_a_row_for_each_person(tmp_path: Path) -> None:
    path = tmp_path / "poses.csv"
    with open_writer(path, COCO_17) as writer:
        writer.write(found(0, 0))
        writer.write(found(1, 2, file_name='a, "b".jpg'))
        writer.write(found(2, 1, tracked=False))
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [(row["frame"], row["time_s"], row["track_id"]) for row in rows] == [
        ("1", "0.050", "7"),
        ("1", "0.050", "8"),
        ("2", "0.100", ""),
    ]
    assert rows[0]["file_name"] == 'a, "b".jpg'
    assert len(rows[0]) == 9 + 3 * 17
    wanted = found(1).keypoints[1, COCO_17.joints.index("left_wrist")]
    assert [float(rows[1][f"left_wrist_{what}"]) for what in "xy"] == pytest.approx(
        wanted, abs=1e-3
    )
    assert (rows[1]["left"], rows[1]["bottom"], rows[1]["score"]) == ("1.000", "32.000", "0.500")


def num_kept(path: Path) -> int:
    """Of frames with two persons each; the file must be whole."""
    if path.suffix in (".mp4", ".webm"):
        return len(list(open_source(path)))
    if path.suffix == ".csv":
        rows = list(csv.DictReader(path.read_text().splitlines()))
        assert all(None not in row and None not in row.values() for row in rows)
        return len(rows) // 2
    document = json.loads(path.read_text())
    if isinstance(document, list):
        return len(document) // 2
    assert len(document["annotations"]) == 2 * len(document["images"])
    return len(document["images"])


OUTPUTS = ["poses.json", "tracks.json", "poses.csv", "out.mp4", "out.webm"]


def opened(path: Path) -> Writer:
    form = "posetrack18" if path.stem == "tracks" else "coco"
    return open_writer(path, COCO_17, json_form=form)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError("clip.mp4: damaged")])
def test_an_interrupt_keeps_what_was_written(
    tmp_path: Path, name: str, error: BaseException | type[BaseException]
) -> None:
    path = tmp_path / name
    path.write_text("of the last time")
    with pytest.raises((KeyboardInterrupt, ValueError)), opened(path) as writer:
        for index in range(5):
            writer.write(found(index))
        assert path.read_text() == "of the last time"
        raise error
    assert num_kept(path) == 5
    assert below(tmp_path) == {name}


@pytest.mark.parametrize("name", OUTPUTS[:3])
def test_an_interrupt_within_a_frame_leaves_that_frame_out(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    writer = opened(path)
    with pytest.raises(KeyboardInterrupt), writer:
        writer.write(found(0))
        file = writer._file  # type: ignore[attr-defined]

        def interrupted(data: memoryview) -> int:
            file.write(data[:20])
            raise KeyboardInterrupt

        attributes = {name: getattr(file, name) for name in ("tell", "truncate", "seek", "close")}
        held = SimpleNamespace(**attributes, write=interrupted, closed=False, fileno=file.fileno)
        monkeyed = pytest.MonkeyPatch()
        monkeyed.setattr(writer, "_file", held)
        try:
            writer.write(found(1))
        finally:
            monkeyed.undo()
    assert num_kept(path) == 1


@contextmanager
def largest_file(num_bytes: int) -> Iterator[None]:
    """As a full disk, for this process alone."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("name", OUTPUTS[:3])
@pytest.mark.parametrize("num_bytes", [30_000, 30_500, 31_000])
def test_a_full_disk_is_one_line_and_keeps_what_was_written(
    tmp_path: Path, name: str, num_bytes: int
) -> None:
    path = tmp_path / name
    with pytest.raises(ValueError) as error, largest_file(num_bytes), opened(path) as writer:
        for index in range(100):
            writer.write(found(index))
    kept = num_kept(path)
    assert str(error.value) == (
        f"{path}: expected a file that can be written, got File too large"
        f" (the first {kept} frames are kept)"
    )
    assert 5 < kept < 40 and 25_000 < path.stat().st_size <= num_bytes
    assert below(tmp_path) == {name}


def test_a_disk_that_is_full_from_the_start_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not that the video, which has no frame, cannot be read back."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=2**19))
    with pytest.raises(ValueError, match="out.mp4: .*got No space left on device$"):
        write(opened(tmp_path / "out.mp4"), 1)
    assert below(tmp_path) == set()


@pytest.mark.parametrize("name", ["out.mp4", "out.webm"])
def test_a_video_ends_before_the_disk_is_full(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = iter([2**30] * 8 + [2**20] * 9)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=next(free)))
    path = tmp_path / name
    with pytest.raises(ValueError) as error, opened(path) as writer:
        for index in range(20):
            writer.write(found(index))
    assert str(error.value) == (
        f"{path}: expected a file that can be written, got {os.strerror(errno.ENOSPC)}"
        " (the first 8 frames are kept)"
    )
    assert num_kept(path) == 8


@pytest.mark.parametrize("name", ["out.mp4", "out.webm"])
def test_a_video_that_is_not_whole_is_told(tmp_path: Path, name: str) -> None:
    """OpenCV says nothing of what it could not write."""
    with (
        pytest.raises(ValueError, match="expected a file that can be written, got File too large$"),
        largest_file(3000),
        opened(tmp_path / name) as writer,
    ):
        for index in range(40):
            noise = np.random.default_rng(index).integers(0, 255, (*HW, 3), np.uint8)
            writer.write(FramePoses(**{**vars(found(index)), "picture_bgr": noise}))
    assert not (tmp_path / f".out.partial{Path(name).suffix}").exists()


def unwritable(root: Path) -> dict[str, str]:
    (root / "file").touch()
    for name in ("folder.json", "folder.csv", "folder.mp4"):
        (root / name).mkdir()
    return {
        "file/poses.json": "expected a file that can be written, got Not a directory",
        "file/poses.csv": "expected a file that can be written, got Not a directory",
        "file/out.mp4": "expected a file that can be written, got Not a directory",
        "file/": "expected a file that can be written, got Not a directory",
        "poses.xml": "expected .mp4, .webm, .json, .csv or a folder, got .xml",
        "out.avi": "expected .mp4, .webm, .json, .csv or a folder, got .avi",
    }


def test_an_output_that_cannot_be_written_is_told_at_once(tmp_path: Path) -> None:
    for name, problem in unwritable(tmp_path).items():
        with pytest.raises(ValueError) as error:
            open_writer(f"{tmp_path}/{name}", COCO_17)
        assert problem in str(error.value) and "\n" not in str(error.value), name
        assert str(error.value).startswith(str(tmp_path / name))


def test_an_error_leaves_the_other_outputs_as_they_are(tmp_path: Path) -> None:
    kept = tmp_path / "poses.json"
    kept.write_text("of a run before")
    pictures = [tmp_path / "new", tmp_path / "new" / "keypoints.json"]
    same: list[str | Path] = [kept, f"{tmp_path}/./poses.json"]
    for outputs in ([kept, tmp_path / "a.avi"], same, pictures):
        with pytest.raises(UserError):
            open_writers(outputs, COCO_17)
        assert kept.read_text() == "of a run before" and below(tmp_path) == {"poses.json"}


def test_a_folder_may_have_a_suffix(tmp_path: Path) -> None:
    for name in ("out.v1/", "was.mp4"):
        if name == "was.mp4":
            (tmp_path / name).mkdir()
        write(open_writer(f"{tmp_path}/{name}", COCO_17), 1)
        assert (tmp_path / name / "clip" / "000000.png").is_file()


@pytest.mark.parametrize("name", OUTPUTS[:2])
def test_numbers_that_are_not_finite_are_named(tmp_path: Path, name: str) -> None:
    bad = found(1)
    bad.keypoints[0, 3] = np.nan
    path = tmp_path / name
    with (
        pytest.raises(ValueError, match=f"{name}: frame 1: expected finite numbers, got others"),
        opened(path) as writer,
    ):
        writer.write(found(0))
        writer.write(bad)
    assert num_kept(path) == 1


@pytest.mark.parametrize("name", OUTPUTS)
def test_no_frame_at_all(tmp_path: Path, name: str) -> None:
    with opened(tmp_path / name):
        pass
    assert below(tmp_path) == (set() if name.startswith("out") else {name})
    if name.endswith(("json", "csv")):
        assert num_kept(tmp_path / name) == 0
