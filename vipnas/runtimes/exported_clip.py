"""The exported networks of a clip: a folder with a file for the key frame and each follow-up."""

from __future__ import annotations

from itertools import count, takewhile
from pathlib import Path

import torch
from torch import Tensor

from vipnas.arch.clip import FollowUp, VideoArch
from vipnas.errors import UserError
from vipnas.files import parse_json
from vipnas.models.clipnet import ClipNetworks
from vipnas.runtimes.exported import (
    ARCH_NOTE,
    CLIP_NOTE,
    HEATMAPS,
    NORMALISED,
    ExportedNetwork,
    is_exported,
    open_exported,
)
from vipnas.runtimes.runtime import Session

KEY_FRAME, FOLLOW_UP = "key_frame", "follow_up_{}"


class ExportedClip(ClipNetworks):
    """The exported networks of a clip in the place of a `VideoNet`.

    Attributes:
        key_frame: The network of key frames.

    Raises:
        UserError: The folder holds no such files, or those of several exports.
    """

    key_frame: ExportedNetwork

    def __init__(self, folder: Path, threads: int) -> None:
        super().__init__()
        found = [path for path in sorted(folder.glob(f"{KEY_FRAME}.*")) if is_exported(path)]
        if len(found) != 1:
            names = ", ".join(path.name for path in found) or "none"
            raise UserError(str(folder), f"one exported file {KEY_FRAME}.*", names)
        self.key_frame = ExportedNetwork(found[0], threads)
        if (self.key_frame.takes, self.key_frame.gives) != (NORMALISED, HEATMAPS):
            form = f"{self.key_frame.takes} to {self.key_frame.gives}"
            raise UserError(str(found[0]), f"{NORMALISED} to {HEATMAPS}", form)
        note = self.key_frame.notes.get(CLIP_NOTE)
        self._noted = None if note is None else parse_json(VideoArch, note, str(found[0]))
        opened = {
            distance: _opened(found[0].with_stem(FOLLOW_UP.format(distance)), threads)
            for distance in self._distances(found[0])
        }
        self._sessions = {distance: session for distance, (session, _) in opened.items()}
        archs = {distance: arch for distance, (_, arch) in opened.items()}
        follow_ups = tuple(map(archs.get, range(1, max(archs, default=0) + 1)))
        self._arch = self._noted or VideoArch(self.key_frame.arch, follow_ups)
        if any(arch != self.arch.follow_ups[distance - 1] for distance, arch in archs.items()):
            raise UserError(str(folder), "the files of one export", "files of several")

    @property
    def arch(self) -> VideoArch:
        """The architectures of all. A frame without a network has no file."""
        return self._arch

    def _distances(self, key_frame: Path) -> list[int]:
        """Return the distances of the follow-up frames that have a network."""
        if self._noted is None:  # by an earlier version: every follow-up frame has one
            paths = (key_frame.with_stem(FOLLOW_UP.format(number)) for number in count(1))
            return [1 + number for number, _ in enumerate(takewhile(Path.is_file, paths))]
        frames = enumerate(self._noted.follow_ups, start=1)
        return [number for number, follow_up in frames if follow_up is not None]

    def run_frame(self, distance: int, images_B3HW: Tensor, before_BKHW: Tensor | None) -> Tensor:
        """Return the heatmaps of a frame by its distance from the key frame, as `VideoNet`."""
        if before_BKHW is None:
            heatmaps: Tensor = self.key_frame(images_B3HW)
            return heatmaps
        number = (distance - 1) % len(self.arch.follow_ups)
        follow_up = self.arch.follow_ups[number]
        if follow_up is None:
            return before_BKHW
        inputs = {"images": images_B3HW}
        if follow_up.fusion is not None:
            inputs["before"] = before_BKHW
        arrays = {name: tensor.cpu().contiguous().numpy() for name, tensor in inputs.items()}
        return torch.from_numpy(self._sessions[number + 1](arrays))


def _opened(path: Path, threads: int) -> tuple[Session, FollowUp]:
    """Open the file of a follow-up frame."""
    session, notes = open_exported(path, threads)
    if ARCH_NOTE not in notes:
        raise UserError(str(path), "a file that vipnas exported", "one without architecture")
    return session, parse_json(FollowUp, notes[ARCH_NOTE], str(path))
