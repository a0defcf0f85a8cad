"""Read and write architecture files, of images and of clips. No torch here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vipnas.arch.clip import VideoArch
from vipnas.arch.image import Arch
from vipnas.errors import UserError, shown
from vipnas.files import check_version, parse, parse_json, read_json, to_plain, write_atomically

# Raised with every new field of an architecture. Its default is the meaning of files of an
# earlier version mean.
ARCH_VERSION = 1
VIDEO_ARCH_VERSION = 1


def arch_from_json(text: str, where: str) -> Arch:
    """Return the inverse of `Arch.to_json`; raises UserError with the place `where`."""
    return parse_json(Arch, text, where)


def write_arch(path: Path, arch: Arch, **found: Any) -> None:
    """Write an architecture file.

    Args:
        path: The file to write.
        arch: The architecture.
        found: Where it comes from, such as cost, score and seed. For readers; `read_arch` ignores
            it.
    """
    _write(path, "arch", ARCH_VERSION, arch, found)


def read_arch(path: Path) -> Arch:
    """Read an architecture file.

    Raises:
        UserError: If it is no such file, has another version or holds an impossible architecture.
    """
    return parse(Arch, _read(path, "arch", ARCH_VERSION), f"{path}: arch")


def video_arch_from_json(text: str, where: str) -> VideoArch:
    """Return the inverse of `VideoArch.to_json`; raises UserError with the place `where`."""
    return parse_json(VideoArch, text, where)


def write_video_arch(path: Path, arch: VideoArch, **found: Any) -> None:
    """Write the architecture file of a clip; see `write_arch`."""
    _write(path, "video_arch", VIDEO_ARCH_VERSION, arch, found)


def read_video_arch(path: Path) -> VideoArch:
    """Read the architecture file of a clip; see `read_arch`."""
    document = _read(path, "video_arch", VIDEO_ARCH_VERSION)
    return parse(VideoArch, document, f"{path}: video_arch")


def _write(
    path: Path, key: str, version: int, arch: Arch | VideoArch, found: dict[str, Any]
) -> None:
    document = {"version": version, key: to_plain(arch), "found": found}
    write_atomically(path, json.dumps(document, indent=2) + "\n")


def _read(path: Path, key: str, version: int) -> Any:
    document = read_json(path)
    if not isinstance(document, dict) or key not in document:
        raise UserError(str(path), f"the keys version and {key}", shown(document))
    check_version(document.get("version"), version, path)
    return document[key]
