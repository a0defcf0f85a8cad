"""The interface of the sources that `open_source` returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

UINT8 = NDArray[np.uint8]
Kind = Literal["image", "folder", "glob", "video", "camera", "stream"]

# Of images, and of videos and cameras that do not say it.
DEFAULT_FPS = 25.0
MAX_FPS = 1000.0


@dataclass(frozen=True)
class SourceFrame:
    """One picture of a source.

    Attributes:
        index: Its number in the source, from 0. Images that cannot be read and frames that a live
            source drops are counted too.
        time_s: Seconds since the first frame.
        image: (H, W, 3), RGB.
        file_name: As annotation files name it: below the folder of all images, or that of a video.
        name: The same without suffix, unless a suffix tells it from another. Unique in the source.
        path: The file of an image; None for a frame of a video.
        scratch_bgr: The same picture in the order of OpenCV, where it was decoded to that; what is
            rendered may be drawn on it.
    """

    index: int
    time_s: float
    image: UINT8
    file_name: str
    name: str
    path: Path | None = None
    scratch_bgr: UINT8 | None = None


class Source(ABC):
    """Frames in their order; a context manager. A source is iterated once.

    Attributes:
        kind: What it is.
        place: Where it is, for messages.
        fps: Frames a second.
        image_hw: Height and width of the first frame; None for images.
        total: Number of frames where it is known.
        files: The files that are read, which nothing may overwrite.
    """

    kind: Kind
    place: str
    fps: float
    image_hw: tuple[int, int] | None = None
    total: int | None = None
    files: tuple[Path, ...] = ()

    @abstractmethod
    def __iter__(self) -> Iterator[SourceFrame]: ...

    def close(self) -> None:  # noqa: B027 (images hold nothing open)
        """Release the file or the device."""

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
