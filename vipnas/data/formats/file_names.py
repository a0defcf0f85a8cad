"""Match names of image files in annotation files to the names on disk.

Annotation tools write backslashes, percent-encoding, or another Unicode form than the file system.
"""

from __future__ import annotations

import logging
import os
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

log = logging.getLogger(__name__)


def names_on_disk(names: Iterable[str], image_root: Path, where: str) -> dict[str, str]:
    """Return the names on disk of files that exist in another spelling only.

    A name that fits several files is left out. Both cases are logged once.

    Args:
        names: File names relative to `image_root`.
        image_root: Folder of the images.
        where: The annotation file, for the log.

    Returns:
        The name on disk for each name that differs from it.
    """
    missing = [name for name in names if not os.path.exists(os.path.join(image_root, name))]
    folders = _Folders(image_root)
    found = {name: folders.files(plain_name(name)) for name in missing}
    renamed = {name: files[0] for name, files in found.items() if len(files) == 1}
    if renamed:
        name, file = next(iter(renamed.items()))
        log.warning(
            "%s: %d file names found in another spelling, such as %r as %s",
            *(where, len(renamed), name, image_root / file),
        )
    ambiguous = {name: files for name, files in found.items() if len(files) > 1}
    if ambiguous:
        name, files = next(iter(ambiguous.items()))
        log.warning(
            "%s: %d file names fit several files in another spelling, such as %r: %s",
            *(where, len(ambiguous), name, ", ".join(files)),
        )
    return renamed


def plain_name(name: str) -> str:
    """Return the name with slashes, no percent-encoding, and composed Unicode characters."""
    return unicodedata.normalize("NFC", unquote(name.replace("\\", "/")))


@dataclass
class _Folders:
    """Folders below a root, each listed once."""

    root: Path
    _listed: dict[str, dict[str, list[str]]] = field(default_factory=dict)

    def files(self, plain_name: str) -> list[str]:
        """Return all files with this plain name, relative to the root."""
        found = [""]
        for part in plain_name.split("/"):
            if part not in ("", "."):
                found = [
                    os.path.join(folder, entry)
                    for folder in found
                    for entry in self._entries(folder).get(part, ())
                ]
        return found

    def _entries(self, folder: str) -> dict[str, list[str]]:
        """Return the names in a folder by their plain form."""
        if folder not in self._listed:
            entries = self._listed[folder] = {}
            path = self.root / folder
            for name in sorted(os.listdir(path)) if path.is_dir() else ():
                entries.setdefault(plain_name(name), []).append(name)
        return self._listed[folder]
