"""The exported networks of a clip: a folder with a file for the key frame and each follow-up."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import torch
from torch import Tensor, nn

from vipnas.arch.clip import FollowUp, VideoArch
from vipnas.errors import UserError
from vipnas.files import parse_json
from vipnas.runtimes.exported import (
    ARCH_NOTE,
    HEATMAPS,
    NORMALISED,
    ExportedNetwork,
    is_exported,
    open_exported,
)
from vipnas.runtimes.runtime import Session

KEY_FRAME, FOLLOW_UP = "key_frame", "follow_up_{}"


class ExportedClip(nn.Module):
    """The exported networks of a clip in the place of a `VideoNet`.

    Attributes:
        key_frame: The network of key frames.
        arch: The architectures of all.

    Raises:
        UserError: The folder holds no such files.
    """

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
        self._sessions: list[Session] = []
        follow_ups: list[FollowUp] = []
        for number in count(1):
            path = found[0].with_stem(FOLLOW_UP.format(number))
            if not path.is_file():
                break
            session, notes = open_exported(path, threads)
            if ARCH_NOTE not in notes:
                raise UserError(
                    str(path), "a file that vipnas exported", "one without architecture"
                )
            follow_ups.append(parse_json(FollowUp, notes[ARCH_NOTE], str(path)))
            self._sessions.append(session)
        self.arch = VideoArch(self.key_frame.arch, tuple(follow_ups))

    def run_frame(self, distance: int, images_B3HW: Tensor, before_BKHW: Tensor | None) -> Tensor:
        """Return the heatmaps of a frame by its distance from the key frame."""
        if before_BKHW is None:
            heatmaps: Tensor = self.key_frame(images_B3HW)
            return heatmaps
        inputs = {"images": images_B3HW}
        if self.arch.follow_ups[distance - 1].fusion is not None:
            inputs["before"] = before_BKHW
        arrays = {name: tensor.cpu().contiguous().numpy() for name, tensor in inputs.items()}
        return torch.from_numpy(self._sessions[distance - 1](arrays))
