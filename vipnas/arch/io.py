"""Read and write architecture files, of images and of clips. No torch here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from vipnas.arch.clip import VideoArch
from vipnas.arch.image import Arch
from vipnas.errors import UserError, shown
from vipnas.files import check_version, parse, parse_json, read_json, to_plain, write_atomically

# Raised with every new field or value of an architecture. A field's default is what files of an
# earlier version mean.
ARCH_VERSION = 2
VIDEO_ARCH_VERSION = 2

A = TypeVar("A", Arch, VideoArch)


def arch_from_json(text: str, where: str) -> Arch:
    """Return the inverse of `Arch.to_json`; raises UserError with the place `where`."""
    return parse_json(Arch, text, where)


def write_arch(path: Path, arch: Arch | VideoArch, **found: Any) -> None:
    """Write the architecture file of an image network or of a clip.

    Args:
        path: The file to write.
        arch: The architecture.
        found: Where it comes from, such as cost, score and seed. For readers; `read_arch` ignores
            it.
    """
    key, version = _format(type(arch))
    document = {"version": version, key: to_plain(arch), "found": found}
    write_atomically(path, json.dumps(document, indent=2) + "\n")


def read_arch(path: Path) -> Arch:
    """Read the architecture file of an image network; see `read_arch_as`."""
    return read_arch_as(Arch, path)


def read_video_arch(path: Path) -> VideoArch:
    """Read the architecture file of a clip; see `read_arch_as`."""
    return read_arch_as(VideoArch, path)


def read_arch_as(kind: type[A], path: Path) -> A:
    """Read an architecture file of one kind.

    Raises:
        UserError: If it is no such file, has another version or holds an impossible architecture.
    """
    key, version = _format(kind)
    document = read_json(path)
    if not isinstance(document, dict) or key not in document:
        raise UserError(str(path), f"the keys version and {key}", shown(document))
    check_version(document.get("version"), version, path)
    return parse(kind, document[key], f"{path}: {key}")


def _format(kind: type[Any]) -> tuple[str, int]:
    """Return the key of an architecture in its file, and the version of the file."""
    if issubclass(kind, VideoArch):
        return "video_arch", VIDEO_ARCH_VERSION
    return "arch", ARCH_VERSION
