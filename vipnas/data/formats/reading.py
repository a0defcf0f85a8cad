"""Settings of reading annotation files, common to all formats."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reading:
    """Which annotations are read, and how images are checked.

    Attributes:
        skip_bad_images: Decode all images, and leave bad ones out of persons and ground truth,
            with a warning for each. By default a bad image is an error.
        ignore_exif: Labels are of the images as stored, without their EXIF orientation.
        categories: Names of the categories that are read, as one. By default the file must have
            exactly one with keypoints.
        check_images: Check sizes and ends of all image files. Without it no image needs to exist.
    """

    skip_bad_images: bool = False
    ignore_exif: bool = False
    categories: tuple[str, ...] | None = None
    check_images: bool = True


DEFAULT_READING = Reading()
