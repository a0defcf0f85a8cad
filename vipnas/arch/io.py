"""Architectures in and out of JSON, of images and of clips. No torch here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vipnas.arch.clip import VideoArch
from vipnas.arch.image import Arch
from vipnas.files import check_version, parse, parse_json, read_json, to_plain, write_atomically

# Raised with every field that an arch gains. Such a field has a default, which is what files of an
# earlier version mean.
ARCH_VERSION = 1


def arch_from_json(text: str, where: str) -> Arch:
    """Inverse of `Arch.to_json`; raises ValueError naming `where`."""
    return parse_json(Arch, text, where)


def write_arch(path: Path, arch: Arch, **found: Any) -> None:
    """Write an arch file; `found` says where it comes from (cost, score, seed): for people, not
    read back."""
    document = {"version": ARCH_VERSION, "arch": to_plain(arch), "found": found}
    write_atomically(path, json.dumps(document, indent=2) + "\n")


def read_arch(path: Path) -> Arch:
    """Read an arch file of this version or an earlier one; raises ValueError for a later version or
    an impossible arch."""
    document = read_json(path)
    if not isinstance(document, dict) or "arch" not in document:
        raise ValueError(f"{path}: not an arch file: it must hold 'version' and 'arch'")
    check_version(document.get("version"), ARCH_VERSION, path)
    return parse(Arch, document["arch"], f"{path}: arch")


VIDEO_ARCH_VERSION = 1


def video_arch_from_json(text: str, where: str) -> VideoArch:
    """Inverse of `VideoArch.to_json`; raises ValueError naming `where`."""
    return parse_json(VideoArch, text, where)


def write_video_arch(path: Path, arch: VideoArch, **found: Any) -> None:
    """Write a clip's arch file; `found` says where it comes from: for people, not read back."""
    document = {"version": VIDEO_ARCH_VERSION, "video_arch": to_plain(arch), "found": found}
    write_atomically(path, json.dumps(document, indent=2) + "\n")


def read_video_arch(path: Path) -> VideoArch:
    """Read a clip's arch file of this version or an earlier one; raises ValueError for a later
    version or an impossible arch."""
    document = read_json(path)
    if not isinstance(document, dict) or "video_arch" not in document:
        raise ValueError(f"{path}: not the arch file of a clip: it must hold 'video_arch'")
    check_version(document.get("version"), VIDEO_ARCH_VERSION, path)
    return parse(VideoArch, document["video_arch"], f"{path}: video_arch")
