"""Check the image entries of an annotation file against the image files."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vipnas.data.crops.headers import Header
from vipnas.data.crops.images import check_images
from vipnas.data.crops.skipped import log_skipped
from vipnas.data.formats.file_names import names_on_disk
from vipnas.data.formats.reading import Reading

log = logging.getLogger(__name__)


def named_as_on_disk(
    images: Mapping[int, Any], image_root: Path, where: str
) -> dict[int, dict[str, Any]]:
    """Return copies of the entries with the file names on disk."""
    names = (image["file_name"] for image in images.values())
    renamed = names_on_disk(names, image_root, where)
    return {
        key: {**image, "file_name": renamed.get(image["file_name"], image["file_name"])}
        for key, image in images.items()
    }


def bad_images_of(
    images: Mapping[int, Any], image_root: Path, where: str, reading: Reading
) -> dict[int, str]:
    """Return what is wrong with each image to skip, by id.

    Raises:
        ValueError: An image is bad, and `reading` does not skip bad images.
    """
    checks = check_images(
        {key: image_root / image["file_name"] for key, image in images.items()},
        {key: (image["height"], image["width"]) for key, image in images.items()},
        reading.ignore_exif,
        decode=reading.skip_bad_images,
    )
    bad = checks.problems
    if bad and not reading.skip_bad_images:
        image_id, problem = next(iter(bad.items()))
        hint = f"{len(bad)} such of {len(images)} images; --skip-bad-images leaves them out"
        raise ValueError(f"{where}: image {image_id}: {problem} ({hint})")
    for image_id, problem in bad.items():
        log_skipped(problem, "%s: image %d left out: %s", where, image_id, problem)
    if not reading.ignore_exif:
        _warn_of_unclear_orientation(checks.turned, images, image_root, where)
    return bad


def _warn_of_unclear_orientation(
    turned: Mapping[int, Header], images: Mapping[int, Any], image_root: Path, where: str
) -> None:
    """Warn where sizes cannot tell whether labels refer to the rotated or to the stored images."""
    unclear = [key for key, header in turned.items() if header.stored_hw == header.turned_hw]
    if len(unclear) < len(turned) or not unclear:
        return
    log.warning(
        "%s: %d images have an EXIF orientation that does not change their size, such as %s (%d): "
        "their labels are assumed to refer to the rotated images; with `exif: ignore` in the "
        "experiment's data section, they refer to the stored images",
        *(where, len(unclear), image_root / images[unclear[0]]["file_name"]),
        turned[unclear[0]].orientation,
    )
