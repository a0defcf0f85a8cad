"""The programs whose labels can be read, by the name that the command line has for them.

Nothing heavy is imported here, since the help of the command line reads the names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from vipnas.errors import UserError

if TYPE_CHECKING:
    from vipnas.data.imports.labels import Labels


@dataclass(frozen=True)
class Source:
    """What to read.

    Attributes:
        path: The file or folder.
        joints: Names of the joints, for sources that only number them.
        split: The part of a dataset, for sources that have several.
        images: The folder of the images, for sources that do not tell; for videos, the folder that
            frames are written to.
    """

    path: Path
    joints: tuple[str, ...] | None = None
    split: str | None = None
    images: Path | None = None


@dataclass(frozen=True)
class Importer:
    """A program whose labels can be read.

    Attributes:
        module: The module of this package with a function `read(source)`.
        options: The options of `Source` that it knows, besides `joints`.
    """

    module: str
    options: frozenset[str]


IMPORTERS: Mapping[str, Importer] = {
    "yolo-pose": Importer("yolo", frozenset({"split"})),
    "label-studio": Importer("label_studio", frozenset({"images"})),
    "cvat": Importer("cvat", frozenset({"images"})),
    "deeplabcut": Importer("deeplabcut", frozenset()),
    "sleap": Importer("sleap", frozenset({"images"})),
}


def read_labels(program: str, source: Source) -> Labels:
    """Read the labels that a program wrote.

    Args:
        program: A key of `IMPORTERS`.
        source: What to read.

    Raises:
        UserError: The source is not as the program writes it, nobody is labelled in it, or it does
            not know an option.
    """
    importer = IMPORTERS[program]
    for option in ("split", "images"):
        if getattr(source, option) is not None and option not in importer.options:
            raise UserError(f"--{option}", f"no such option for {program}", "it")
    read: Callable[[Source], Labels] = import_module(f"vipnas.data.imports.{importer.module}").read
    labels = read(source)
    _check_positions(labels, source.path)
    if source.joints is not None:
        labels = labels.in_order_of(source.joints, str(source.path))
    if not labels.num_persons:
        raise UserError(str(source.path), "labelled persons", "none", _reasons(labels))
    return labels


def _check_positions(labels: Labels, place: Path) -> None:
    """Raise UserError for a joint that is further outside of its image than that is large."""
    for image in labels.images:
        height, width = image.image_hw
        for name, (x, y, _) in (entry for p in image.persons for entry in p.joints.items()):
            if not (-width <= x <= 2 * width and -height <= y <= 2 * height):
                expected = f"pixels of an image of {width} x {height}"
                raise UserError(f"{place}: {image.file_name}: {name}", expected, f"{x:g}, {y:g}")


def _reasons(labels: Labels) -> str:
    counts = ", ".join(f"{count} {reason}" for reason, count in (+labels.left_out).items())
    return f"left out: {counts}" if counts else ""
