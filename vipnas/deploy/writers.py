"""What was found, written frame by frame: drawn videos and images, JSON, CSV.

    with open_writer("poses.json", skeleton, source.files) as writer:
        writer.write(FramePoses(frame, keypoints, scores, boxes_xyxy))

A file appears under its name when its writer is closed. On an interrupt, an error or a full disk it
holds the frames that were written until then.

N persons, K keypoints.
"""

from __future__ import annotations

import csv
import errno
import io
import json
import logging
import os
import shutil
from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryFile
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from vipnas.data.crops.images import write_png
from vipnas.data.formats.coco import PERSON_CATEGORY
from vipnas.data.formats.results import coco_results
from vipnas.data.formats.skeletons import Skeleton
from vipnas.deploy.encoders import Codec, Encoder, check_codec, fitted, holds_video, open_encoder
from vipnas.deploy.sources import DEFAULT_FPS, SourceFrame
from vipnas.files import sync_directory

log = logging.getLogger(__name__)

UINT8 = NDArray[np.uint8]
JsonForm = Literal["coco", "posetrack18"]

# A video is ended while there is room for its index and for what the encoder holds back.
_SPARE_BYTES = 16 * 2**20


@dataclass(frozen=True)
class FramePoses:
    """What was found in a frame.

    Attributes:
        frame: Where it was looked for.
        keypoints: (N, K, 2), x and y in pixels of the image.
        scores: (N, K).
        boxes_xyxy: (N, 4), left, top, right and bottom in pixels.
        ids: (N,) of the persons' tracks; None without tracking.
        picture: The drawn image (H, W, 3), RGB. Only writers that draw need it.
    """

    frame: SourceFrame
    keypoints: NDArray[np.floating]
    scores: NDArray[np.floating]
    boxes_xyxy: NDArray[np.floating]
    ids: NDArray[np.integer] | None = None
    picture: UINT8 | None = None


class Writer(ABC):
    """Writes what was found in frames; a context manager.

    Attributes:
        draws: Whether `write` needs the drawn picture.
        path: The file, or the folder of pictures.
        num_frames: How many frames were written.
    """

    draws: ClassVar[bool] = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self.num_frames = 0

    def write(self, found: FramePoses) -> None:
        """Raise ValueError in one line where it cannot be written, such as on a full disk."""
        try:
            self._write(found)
        except OSError as error:
            self.close()  # what is kept is known after that
            raise self._unwritable(error) from error
        self.num_frames += 1

    def close(self) -> None:
        """Complete the file; raise ValueError in one line where that fails."""
        try:
            self._close()
        except OSError as error:
            self.num_frames = 0
            raise self._unwritable(error) from error

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        try:
            self.close()
        except ValueError as problem:
            if kind is None:
                raise
            log.warning("%s", problem)  # the first error is the one to tell

    @abstractmethod
    def _write(self, found: FramePoses) -> None: ...

    @abstractmethod
    def _close(self) -> None: ...

    def _unwritable(self, error: OSError) -> ValueError:
        kept = f" (the first {self.num_frames} frames are kept)" if self.num_frames else ""
        return ValueError(f"{self.path}: cannot be written: {error.strerror or error}{kept}")


def open_writer(
    output: str | Path,
    skeleton: Skeleton,
    source_files: Sequence[Path] = (),
    *,
    fps: float = DEFAULT_FPS,
    codec: Codec = "mp4v",
    json_form: JsonForm = "coco",
    image_id_of: Callable[[SourceFrame], int] | None = None,
) -> Writer:
    """Open the writer that the name of the output asks for.

    Args:
        output: `.mp4` or `.webm` for a drawn video, `.json`, `.csv`; else a folder of drawn images.
        skeleton: That of the poses.
        source_files: Files that must not be overwritten.
        fps: Frames a second of a video.
        codec: Of an `.mp4`: see `CODEC_HELP`.
        json_form: `coco` results, or `posetrack18` with track ids.
        image_id_of: COCO's id of an image; by default the number of the frame.

    Raises:
        ValueError: It cannot be written there, or would overwrite a source.
    """
    path = Path(output)
    suffix = path.suffix.lower()
    is_folder = not suffix or path.is_dir() or str(output).endswith(("/", os.sep))
    if not is_folder and suffix not in (".mp4", ".webm", ".json", ".csv"):
        raise ValueError(
            f"{path}: expected .mp4, .webm, .json, .csv or a folder, got {path.suffix} (end the"
            " name of a new folder with /)"
        )
    if path.resolve() in {file.resolve() for file in source_files}:
        raise ValueError(f"{path}: expected another file than the source, got the source")
    try:
        if is_folder:
            return PictureWriter(path, source_files)
        if suffix == ".json" and json_form == "posetrack18":
            return PoseTrackWriter(path, skeleton)
        if suffix == ".json":
            return CocoWriter(path, image_id_of)
        if suffix == ".csv":
            return CsvWriter(path, skeleton)
        return VideoWriter(path, fps, codec)
    except OSError as error:
        raise ValueError(f"{path}: cannot be written: {error.strerror or error}") from error


class PictureWriter(Writer):
    """A PNG for each frame, by the frame's name. No picture overwrites a file of the source."""

    draws = True

    def __init__(self, folder: Path, source_files: Sequence[Path]) -> None:
        super().__init__(folder)
        self._source_files = {file.resolve() for file in source_files}
        _check_writable(folder)

    def _write(self, found: FramePoses) -> None:
        assert found.picture is not None
        path = self.path / f"{found.frame.name}.png"
        if path.resolve() in self._source_files:
            raise ValueError(f"{path}: expected a new file, got one of the source")
        write_png(path, found.picture)

    def _close(self) -> None:
        pass


class VideoWriter(Writer):
    """A drawn video, as large as its first frame."""

    draws = True

    def __init__(self, path: Path, fps: float, codec: Codec) -> None:
        super().__init__(path)
        check_codec(codec)
        _check_writable(path.parent)
        self._aside = path.with_name(f".{path.stem}.partial{path.suffix}")
        self._fps, self._codec = fps, codec
        self._encoder: Encoder | None = None
        self._next_index = 0

    def _write(self, found: FramePoses) -> None:
        picture = found.picture
        assert picture is not None
        if self._encoder is None:
            self._encoder = open_encoder(self._aside, picture.shape[:2], self._fps, self._codec)
            self._next_index = found.frame.index
        # OpenCV does not tell of a full disk, on which the index of the video has no room.
        if shutil.disk_usage(self.path.parent).free < _SPARE_BYTES + picture.nbytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        picture = fitted(picture, self._encoder.image_hw)
        # A frame that a live source dropped is replaced by the one after it.
        for _ in range(max(1, found.frame.index + 1 - self._next_index)):
            self._encoder.write(picture)
        self._next_index = found.frame.index + 1

    def _close(self) -> None:
        if self._encoder is None:
            return
        encoder, self._encoder = self._encoder, None
        try:
            encoder.close()
        finally:
            if holds_video(self._aside):
                self._aside.replace(self.path)
            self._aside.unlink(missing_ok=True)


class SpoolWriter(Writer):
    """A file of text that grows aside, and always ends with a whole frame."""

    def __init__(self, path: Path, head: str) -> None:
        super().__init__(path)
        _make_folder(path.parent)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        self._aside = path.with_name(f".{path.name}.partial")
        self._file = self._aside.open("wb", buffering=0)
        self._append(head)
        # Where each frame ends, and with it what may follow.
        self._ends = array("Q", [self._file.tell()])

    @abstractmethod
    def _text(self, found: FramePoses) -> str:
        """What is written of a frame."""

    def _tail(self, num_frames: int) -> str:
        """What completes the file after so many frames."""
        return ""

    def _write(self, found: FramePoses) -> None:
        self._append(self._text(found))
        self._ends.append(self._file.tell())

    def _close(self) -> None:
        if self._file.closed:
            return
        try:
            self._complete()
            os.fsync(self._file.fileno())
            self._file.close()
            self._aside.replace(self.path)
            sync_directory(self.path.parent)
        finally:
            self._file.close()
            self._aside.unlink(missing_ok=True)

    def _complete(self) -> None:
        """Write the tail; on a full disk the last frames make room for it."""
        while True:
            self._cut(self._ends[-1])  # an interrupt may have left a part of a frame
            try:
                return self._append(self._tail(len(self._ends) - 1))
            except OSError:
                if len(self._ends) == 1:
                    raise
                self._ends.pop()
                self.num_frames = len(self._ends) - 1

    def _append(self, text: str) -> None:
        """Append all of the text, or nothing."""
        begin, data = self._file.tell(), memoryview(text.encode())
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError:
            self._cut(begin)
            raise

    def _cut(self, end: int) -> None:
        self._file.truncate(end)
        self._file.seek(end)


class CocoWriter(SpoolWriter):
    """COCO results: one object a person, with the file name, and the track where there is one."""

    def __init__(self, path: Path, image_id_of: Callable[[SourceFrame], int] | None) -> None:
        super().__init__(path, "[")
        self._image_id_of = image_id_of or (lambda frame: frame.index)
        self._is_first = True

    def _text(self, found: FramePoses) -> str:
        image_ids = [self._image_id_of(found.frame)] * len(found.keypoints)
        entries = coco_results(image_ids, found.keypoints, found.scores)
        for number, entry in enumerate(entries):
            entry["file_name"] = found.frame.file_name
            if found.ids is not None:
                entry["track_id"] = int(found.ids[number])
        separators = [",\n"] * len(entries)
        if self._is_first and entries:
            separators[0], self._is_first = "\n", False
        texts = (_to_json(entry, self.path, found) for entry in entries)
        return "".join(f"{begin}{text}" for begin, text in zip(separators, texts, strict=True))

    def _tail(self, num_frames: int) -> str:
        return "\n]\n"


class PoseTrackWriter(SpoolWriter):
    """A video in the form of PoseTrack18, with track ids, and scores of joints and persons."""

    def __init__(self, path: Path, skeleton: Skeleton) -> None:
        super().__init__(path, '{"annotations": [')
        self._skeleton = skeleton
        self._num_annotations = 0
        self._images: list[str] = []

    def _text(self, found: FramePoses) -> str:
        frame, ids = found.frame, found.ids
        if ids is None:
            raise ValueError(f"{self.path}: PoseTrack18: expected track ids, got none")
        height, width = frame.image.shape[:2]
        image = {
            "id": frame.index,
            "file_name": frame.file_name,
            "frame_id": frame.index,
            "vid_id": str(PurePosixPath(frame.file_name).parent),
            "is_labeled": True,
            "width": width,
            "height": height,
        }
        texts = []
        results = coco_results([frame.index] * len(ids), found.keypoints, found.scores)
        for number, entry in enumerate(results):
            left, top, right, bottom = found.boxes_xyxy[number].tolist()
            joints_K3 = np.ones((self._skeleton.num_joints, 3))  # the last column: labelled
            joints_K3[:, :2] = found.keypoints[number]
            entry |= {
                "id": self._num_annotations,
                "track_id": int(ids[number]),
                "keypoints": joints_K3.ravel().tolist(),
                "scores": found.scores[number].tolist(),
                "bbox": [left, top, right - left, bottom - top],
            }
            texts.append(
                (",\n" if self._num_annotations else "\n") + _to_json(entry, self.path, found)
            )
            self._num_annotations += 1
        self._images.append(json.dumps(image))
        return "".join(texts)

    def _tail(self, num_frames: int) -> str:
        category = {
            "id": PERSON_CATEGORY,
            "name": "person",
            "supercategory": "person",
            "keypoints": list(self._skeleton.joints),
            "skeleton": [[first + 1, second + 1] for first, second in self._skeleton.limbs],
        }
        images = ",\n".join(self._images[:num_frames])
        return f'\n],\n"images": [\n{images}\n],\n"categories": [{json.dumps(category)}]}}\n'


class CsvWriter(SpoolWriter):
    """A row a person: frame, time, file name, track, score, box, and x, y, score of each joint."""

    def __init__(self, path: Path, skeleton: Skeleton) -> None:
        columns = ["frame", "time_s", "file_name", "track_id", "score"]
        columns += ["left", "top", "right", "bottom"]
        columns += [f"{joint}_{what}" for joint in skeleton.joints for what in ("x", "y", "score")]
        super().__init__(path, _csv_rows([columns]))

    def _text(self, found: FramePoses) -> str:
        frame = found.frame
        results = coco_results([0] * len(found.keypoints), found.keypoints, found.scores)
        rows = []
        for number, entry in enumerate(results):
            numbers = [entry["score"], *found.boxes_xyxy[number], *entry["keypoints"]]
            track_id = "" if found.ids is None else int(found.ids[number])
            row = [frame.index, f"{frame.time_s:.3f}", frame.file_name, track_id]
            rows.append([*row, *(f"{value:.3f}" for value in numbers)])
        return _csv_rows(rows)


def _csv_rows(rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _to_json(entry: Mapping[str, Any], path: Path, found: FramePoses) -> str:
    try:
        return json.dumps(entry, allow_nan=False)
    except ValueError as error:
        raise ValueError(
            f"{path}: frame {found.frame.index}: expected finite numbers, got others"
        ) from error


def _check_writable(folder: Path) -> None:
    """Raise OSError where no file can be made."""
    _make_folder(folder)
    with TemporaryFile(dir=folder):
        pass


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from None
