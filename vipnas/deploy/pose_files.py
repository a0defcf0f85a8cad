"""Poses as text, frame by frame: COCO results, PoseTrack18, CSV."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
from abc import abstractmethod
from array import array
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from vipnas.data.formats.coco import PERSON_CATEGORY
from vipnas.data.formats.results import coco_results
from vipnas.data.formats.skeletons import Skeleton
from vipnas.deploy.result import number_columns
from vipnas.deploy.sources import SourceFrame
from vipnas.deploy.writer import FramePoses, Writer, make_folder
from vipnas.errors import UserError
from vipnas.files import sync_directory


class SpoolWriter(Writer):
    """A file that grows under another name, and always ends with a whole frame."""

    def __init__(self, path: Path, head: str) -> None:
        super().__init__(path)
        make_folder(path.parent)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        self._aside = path.with_name(f".{path.name}.partial")
        self._file = self._aside.open("wb", buffering=0)
        self._append(head)
        # Where each frame ends, and with it what may follow.
        self._ends = array("Q", [self._file.tell()])

    @abstractmethod
    def _text(self, found: FramePoses) -> str:
        """Return the text of a frame."""

    def _tail(self, num_frames: int) -> str:
        """Return the text that completes the file after so many frames."""
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

    def _discard(self) -> None:
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
        entries = coco_results(image_ids, found.keypoints, found.scores, found.box_scores)
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
            raise UserError(f"{self.path}: PoseTrack18", "track ids", "none")
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
        results = coco_results(
            [frame.index] * len(ids), found.keypoints, found.scores, found.box_scores
        )
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
        super().__init__(path, _csv_rows([[*columns, *number_columns(skeleton)]]))

    def _text(self, found: FramePoses) -> str:
        frame = found.frame
        results = coco_results(
            [0] * len(found.keypoints), found.keypoints, found.scores, found.box_scores
        )
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
        raise UserError(f"{path}: frame {found.frame.index}", "finite numbers", "others") from error
