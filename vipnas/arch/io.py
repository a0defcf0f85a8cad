"""Architectures in and out of JSON, of images and of clips. No torch here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vipnas.arch.clip import VideoArch
from vipnas.arch.image import Arch
from vipnas.files import parse, parse_json, read_json, to_plain, write_atomically

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
    """Read an arch file; raises ValueError for another version or an impossible arch."""
    document = read_json(path)
    if not isinstance(document, dict) or "arch" not in document:
        raise ValueError(f"{path}: not an arch file: it must hold 'version' and 'arch'")
    if document.get("version") != ARCH_VERSION:
        raise ValueError(
            f"{path}: version: found {document.get('version')!r}, allowed is {ARCH_VERSION}"
        )
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
    """Read a clip's arch file; raises ValueError for another version or an impossible arch."""
    document = read_json(path)
    if not isinstance(document, dict) or "video_arch" not in document:
        raise ValueError(f"{path}: not the arch file of a clip: it must hold 'video_arch'")
    if (found := document.get("version")) != VIDEO_ARCH_VERSION:
        raise ValueError(f"{path}: version: found {found!r}, allowed is {VIDEO_ARCH_VERSION}")
    return parse(VideoArch, document["video_arch"], f"{path}: video_arch")
