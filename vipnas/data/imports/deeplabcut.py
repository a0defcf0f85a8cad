"""Read labels of DeepLabCut: the tables `CollectedData_SCORER.csv` of a project.

The first rows of a table name the scorer, the individuals (in projects of several animals), the
body parts, and x or y; each further row is an image.
"""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vipnas.data.crops.images import image_size
from vipnas.data.imports.labels import Joint, LabelledImage, LabelledPerson, Labels
from vipnas.data.imports.table import Source
from vipnas.errors import UserError, shown
from vipnas.files import read_text

TABLES = "CollectedData_*.csv"
CATEGORY = "animal"
# In projects of several animals: body parts that are of none, such as corners of a box.
OF_NONE = "single"
HEADERS = ("scorer", "individuals", "bodyparts", "coords")


def read(source: Source) -> Labels:
    """Read a project folder, a folder of it, or a single table."""
    tables = sorted(source.path.rglob(TABLES)) if source.path.is_dir() else [source.path]
    if not tables:
        raise UserError(str(source.path), f"a table {TABLES} in it", "none")
    root = _project_root(tables[0])
    left_out: Counter[str] = Counter()
    joints: dict[str, None] = {}
    images: list[LabelledImage] = []
    for path in tables:
        table = _read_table(path)
        joints.update(dict.fromkeys(table.joints))
        if any(individual == OF_NONE for individual, _, _ in table.columns):
            left_out[f"body parts of no individual in {path.name}"] += 1
        images += table.images(root)
    return Labels(tuple(images), {CATEGORY: tuple(joints)}, root, left_out)


@dataclass(frozen=True)
class _Table:
    """A table: individual, body part and axis of each column of numbers, and the rows."""

    path: Path
    columns: Sequence[tuple[str, str, str]]
    rows: Sequence[tuple[int, Sequence[str]]]
    num_index_columns: int

    @property
    def joints(self) -> Iterable[str]:
        return (joint for individual, joint, _ in self.columns if individual != OF_NONE)

    def images(self, root: Path) -> Iterable[LabelledImage]:
        for line, row in self.rows:
            place = f"{self.path}: line {line}"
            file_name = "/".join(row[: self.num_index_columns]).replace("\\", "/")
            persons = tuple(self._persons(place, row[self.num_index_columns :]))
            yield LabelledImage(file_name, image_size(root / file_name), persons)

    def _persons(self, place: str, cells: Sequence[str]) -> Iterable[LabelledPerson]:
        if len(cells) != len(self.columns):
            raise UserError(place, f"{len(self.columns)} numbers", str(len(cells)))
        values: dict[str, dict[str, dict[str, float]]] = {}
        for (individual, joint, axis), cell in zip(self.columns, cells, strict=True):
            if individual != OF_NONE:
                value = _number(f"{place}: {joint} {axis}", cell)
                values.setdefault(individual, {}).setdefault(joint, {})[axis] = value
        for of_individual in values.values():
            joints = {
                name: Joint(xy["x"], xy["y"])
                for name, xy in of_individual.items()
                if math.isfinite(xy["x"]) and math.isfinite(xy["y"])
            }
            if joints:
                yield LabelledPerson(CATEGORY, joints)


def _read_table(path: Path) -> _Table:
    lines = list(csv.reader(read_text(path).splitlines()))
    headers = {line[0]: line for line in lines[: len(HEADERS)] if line and line[0] in HEADERS}
    for name in ("bodyparts", "coords"):
        if name not in headers:
            raise UserError(f"{path}: line {len(headers) + 1}", f"the row {name!r}", "none")
    # An index of three columns has empty headers after the first.
    axes, parts = headers["coords"], headers["bodyparts"]
    start = next((index for index, axis in enumerate(axes) if axis in ("x", "y")), 0)
    individuals = headers.get("individuals", [""] * len(axes))
    if not start or not len(axes) == len(parts) == len(individuals):
        raise UserError(f"{path}: coords", "x and y of each body part", shown(axes))
    columns = list(zip(individuals[start:], parts[start:], axes[start:], strict=True))
    pairs = {(individual, part) for individual, part, _ in columns}
    expected = {(*pair, axis) for pair in pairs for axis in ("x", "y")}
    if len(columns) != len(expected) or set(columns) != expected:
        raise UserError(f"{path}: coords", "x and y of each body part once", shown(axes[start:]))
    numbered = enumerate(lines[len(headers) :], start=len(headers) + 1)
    return _Table(path, columns, [(line, row) for line, row in numbered if row], start)


def _number(place: str, cell: str) -> float:
    try:
        return float(cell) if cell.strip() else math.nan
    except ValueError:
        raise UserError(place, "a number or nothing", shown(cell)) from None


def _project_root(table: Path) -> Path:
    """The folder that names of images are relative to: that which holds `labeled-data`."""
    folder = table.resolve().parent
    for parent in folder.parents:
        if (parent / "labeled-data").is_dir():
            return parent
    raise UserError(str(table), "a table below the folder labeled-data of its project", "none")
