"""Write poses frame by frame: rendered videos and images, JSON, CSV.

    with open_writer("poses.json", skeleton, source.files) as writer:
        writer.write(FramePoses(frame, keypoints, scores, boxes_xyxy))

A file appears under its name when its writer is closed. On an interrupt, an error or a full disk it
holds the frames that were written until then.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryFile
from typing import Literal

from vipnas.data.crops.images import write_png
from vipnas.data.formats.skeletons import Skeleton
from vipnas.deploy.encoders import Codec, Encoder, check_codec, fitted, holds_video, open_encoder
from vipnas.deploy.pose_files import CocoWriter, CsvWriter, PoseTrackWriter
from vipnas.deploy.sources import DEFAULT_FPS, SourceFrame
from vipnas.deploy.writer import FramePoses, Writer, make_folder, unwritable
from vipnas.errors import UserError

__all__ = ["FramePoses", "JsonForm", "PictureWriter", "VideoWriter", "Writer"]
__all__ += ["open_writer", "open_writers"]

JsonForm = Literal["coco", "posetrack18"]

# In a folder of rendered images.
KEYPOINTS_FILE = "keypoints.json"

# A video is ended while there is room for its index and for what the encoder holds back.
_SPARE_BYTES = 16 * 2**20


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
        output: `.mp4` or `.webm` for a rendered video, `.json`, `.csv`; else a folder of images.
        skeleton: That of the poses.
        source_files: Files that must not be overwritten.
        fps: Frames a second of a video.
        codec: Of an `.mp4`: `mp4v`, which OpenCV writes, or `h264`, which needs PyAV.
        json_form: `coco` results, or `posetrack18` with track ids.
        image_id_of: COCO's id of an image; by default the number of the frame.

    Raises:
        UserError: The output cannot be written, or would overwrite a source.
    """
    path = Path(output)
    suffix = path.suffix.lower()
    is_folder = not suffix or path.is_dir() or str(output).endswith(("/", os.sep))
    if not is_folder and suffix not in (".mp4", ".webm", ".json", ".csv"):
        raise UserError(
            str(path),
            ".mp4, .webm, .json, .csv or a folder",
            path.suffix,
            "end the name of a new folder with /",
        )
    if path.resolve() in {file.resolve() for file in source_files}:
        raise UserError(str(path), "another file than the source", "the source")
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
        raise unwritable(path, error) from error


def open_writers(
    outputs: Sequence[str | Path],
    skeleton: Skeleton,
    source_files: Sequence[Path] = (),
    *,
    fps: float = DEFAULT_FPS,
    codec: Codec = "mp4v",
    json_form: JsonForm = "coco",
) -> list[Writer]:
    """Open a writer for each output; a folder of images has `keypoints.json` in it.

    Raises:
        UserError: As for `open_writer`, or two outputs are one file. Nothing is written then.
    """
    writers: list[Writer] = []
    with ExitStack() as opened:  # an error leaves files of these names as they are
        for output in outputs:
            for path in (output, Path(output) / KEYPOINTS_FILE):
                if Path(path).resolve() in {writer.path.resolve() for writer in writers}:
                    raise UserError(str(path), "each output once", "the same one twice")
                writer = open_writer(
                    path, skeleton, source_files, fps=fps, codec=codec, json_form=json_form
                )
                writers.append(opened.enter_context(writer))
                if not isinstance(writer, PictureWriter):
                    break
        opened.pop_all()
    return writers


class PictureWriter(Writer):
    """A PNG for each frame, by the frame's name. No picture overwrites a file of the source."""

    draws = True

    def __init__(self, folder: Path, source_files: Sequence[Path]) -> None:
        super().__init__(folder)
        self._source_files = {file.resolve() for file in source_files}
        _check_writable(folder)

    def _write(self, found: FramePoses) -> None:
        assert found.picture_bgr is not None
        path = self.path / f"{found.frame.name}.png"
        if path.resolve() in self._source_files:
            raise UserError(str(path), "a new file", "one of the source")
        write_png(path, found.picture_bgr, bgr=True)

    def _close(self) -> None:
        pass


class VideoWriter(Writer):
    """A rendered video, as large as its first frame."""

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
        picture = found.picture_bgr
        assert picture is not None
        # OpenCV does not tell of a full disk, on which the index of the video has no room.
        if shutil.disk_usage(self.path.parent).free < _SPARE_BYTES + picture.nbytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if self._encoder is None:
            self._encoder = open_encoder(self._aside, picture.shape[:2], self._fps, self._codec)
            self._next_index = found.frame.index
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


def _check_writable(folder: Path) -> None:
    """Raise OSError if no file can be created."""
    make_folder(folder)
    with TemporaryFile(dir=folder):
        pass
