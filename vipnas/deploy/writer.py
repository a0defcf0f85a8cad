"""The interface of the writers that `open_writer` returns.

N persons, K keypoints.
"""

from __future__ import annotations

import errno
import logging
import os
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from vipnas.deploy.sources import SourceFrame
from vipnas.errors import UserError

log = logging.getLogger(__name__)

UINT8 = NDArray[np.uint8]


@dataclass(frozen=True)
class FramePoses:
    """The poses of a frame.

    Attributes:
        frame: The frame.
        keypoints: (N, K, 2), x and y in pixels of the image.
        scores: (N, K).
        boxes_xyxy: (N, 4), left, top, right and bottom in pixels.
        ids: (N,) of the persons' tracks; None without tracking.
        picture_bgr: The rendered image (H, W, 3), in the order of OpenCV. Only writers of images
            and videos need it.
        box_scores: (N,), the detector's; None where nothing says them.
    """

    frame: SourceFrame
    keypoints: NDArray[np.floating]
    scores: NDArray[np.floating]
    boxes_xyxy: NDArray[np.floating]
    ids: NDArray[np.integer] | None = None
    picture_bgr: UINT8 | None = None
    box_scores: NDArray[np.floating] | None = None


class Writer(ABC):
    """Write the poses of frames; a context manager.

    Attributes:
        draws: Whether `write` needs the rendered picture.
        path: The file, or the folder of pictures.
        num_frames: How many frames were written.
    """

    draws: ClassVar[bool] = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self.num_frames = 0

    def write(self, found: FramePoses) -> None:
        """Write a frame; raise UserError if that fails, such as on a full disk."""
        try:
            self._write(found)
        except OSError as error:
            with suppress(UserError):  # the first error is the one to tell
                self.close()  # what is kept is known after that
            raise self._unwritable(error) from error
        self.num_frames += 1

    def close(self) -> None:
        """Complete the file; raise UserError where that fails."""
        try:
            self._close()
        except OSError as error:
            self.num_frames = 0
            raise self._unwritable(error) from error

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        try:
            if kind is not None and self.num_frames == 0:
                self._discard()
            else:
                self.close()
        except ValueError as problem:
            if kind is None:
                raise
            log.warning("%s", problem)  # the first error is the one to tell

    @abstractmethod
    def _write(self, found: FramePoses) -> None: ...

    @abstractmethod
    def _close(self) -> None: ...

    def _discard(self) -> None:
        """Leave nothing: an error came before the first frame."""
        self.close()

    def _unwritable(self, error: OSError) -> UserError:
        kept = f"the first {self.num_frames} frames are kept" if self.num_frames else ""
        return unwritable(self.path, error, kept)


def unwritable(path: Path, error: OSError, hint: str = "") -> UserError:
    """Return the error of a file that the system does not let us write."""
    return UserError(str(path), "a file that can be written", error.strerror or str(error), hint)


def make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from None
