"""Read YOLO-pose folders: `data.yaml`, images, and one `.txt` file of labels for each image.

A line of labels is `class x y w h px1 py1 [v1] px2 ...`, in fractions of the image; the box is
given by its centre. The labels of `images/NAME.jpg` are in `labels/NAME.txt`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vipnas.data.crops.images import image_size
from vipnas.data.imports.labels import Joint, LabelledImage, LabelledPerson, Labels
from vipnas.data.imports.table import Source
from vipnas.errors import UserError, shown
from vipnas.files import read_text, read_yaml

SPLITS = ("train", "val", "test")
SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
NUM_BOX_COLUMNS = 5  # the class, and the box


def read(source: Source) -> Labels:
    """Read one split of a folder with `data.yaml`, or of that file itself; `train` by default."""
    file = source.path / "data.yaml" if source.path.is_dir() else source.path
    dataset = _read_dataset(file, source)
    split = source.split or "train"
    folder, images = _images(file, dataset.document, split)
    labelled = tuple(
        LabelledImage(path.relative_to(folder).as_posix(), *dataset.read_image(path))
        for path in images
    )
    joints = {name: dataset.joints[number] for number, name in dataset.categories.items()}
    return Labels(labelled, joints, folder, _left_out(images))


@dataclass(frozen=True)
class _Dataset:
    """What `data.yaml` says.

    Attributes:
        document: All of it.
        categories: Names by class.
        joints: Their joints in order, by class.
        num_joints: The number of joints, in every class the same.
        columns: Columns for a joint.
    """

    document: Mapping[str, Any]
    categories: Mapping[int, str]
    joints: Mapping[int, tuple[str, ...]]
    num_joints: int
    columns: int

    def read_image(self, image: Path) -> tuple[tuple[int, int], tuple[LabelledPerson, ...]]:
        """Return height and width, and who is labelled; nobody where there is no file of labels."""
        image_hw = image_size(image)
        labels = _label_file(image)
        if not labels.is_file():
            return image_hw, ()
        lines = enumerate(read_text(labels).splitlines(), start=1)
        return image_hw, tuple(
            self._person(f"{labels}: line {number}", line.split(), image_hw)
            for number, line in lines
            if line.strip()
        )

    def _person(
        self, place: str, columns: Sequence[str], image_hw: tuple[int, int]
    ) -> LabelledPerson:
        expected = NUM_BOX_COLUMNS + self.columns * self.num_joints
        if len(columns) != expected:
            what = f"{expected} columns (class, box and {self.num_joints} joints)"
            raise UserError(place, what, str(len(columns)))
        try:
            values = [float(column) for column in columns]
        except ValueError:
            raise UserError(place, "numbers", shown(" ".join(columns))) from None
        if values[0] not in self.categories:
            known = ", ".join(map(str, self.categories))
            raise UserError(f"{place}: class", f"one of {known}", columns[0])
        if not all(-1 <= value <= 2 for value in values[1:NUM_BOX_COLUMNS]):
            raise UserError(
                f"{place}: box", "fractions of the image", shown(" ".join(columns[1:5]))
            )
        height, width = image_hw
        x, y, w, h = values[1:NUM_BOX_COLUMNS]
        box = ((x - w / 2) * width, (y - h / 2) * height, w * width, h * height)
        joints = {
            name: joint
            for number, name in enumerate(self.joints[int(values[0])])
            if (joint := self._joint(f"{place}: joint {number} ({name})", values, number, image_hw))
        }
        return LabelledPerson(self.categories[int(values[0])], joints, box)

    def _joint(
        self, where: str, values: Sequence[float], number: int, image_hw: tuple[int, int]
    ) -> Joint | None:
        """Return a labelled joint. Without a column for it, joints below 0 or at 0, 0 are not."""
        start = NUM_BOX_COLUMNS + self.columns * number
        x, y = values[start : start + 2]
        visibility = values[start + 2] if self.columns == 3 else 2.0 * (min(x, y) >= 0 < max(x, y))
        if visibility not in (0, 1, 2):
            raise UserError(f"{where}: visibility", "0, 1 or 2", f"{visibility:g}")
        if visibility and not (-1 <= x <= 2 and -1 <= y <= 2):
            raise UserError(where, "fractions of the image", f"{x:g} {y:g}")
        return Joint(x * image_hw[1], y * image_hw[0], int(visibility)) if visibility else None


def _read_dataset(file: Path, source: Source) -> _Dataset:
    document = read_yaml(file)
    if not isinstance(document, dict):
        raise UserError(str(file), "a mapping", shown(document))
    shape = document.get("kpt_shape")
    if not (
        isinstance(shape, list)
        and len(shape) == 2
        and type(shape[0]) is int
        and shape[0] > 0
        and shape[1] in (2, 3)
    ):
        raise UserError(f"{file}: kpt_shape", "[joints, 2 or 3]", shown(shape))
    names = document.get("names")
    if isinstance(names, list):
        names = dict(enumerate(names))
    if (
        not isinstance(names, dict)
        or not names
        or not all(type(key) is int and isinstance(name, str) for key, name in names.items())
    ):
        raise UserError(f"{file}: names", "the name of each class", shown(names))
    if len(set(names.values())) < len(names):
        raise UserError(f"{file}: names", "each name once", shown(names))
    named = document.get("kpt_names")
    # Classes that it does not list share the joints of the first one.
    first = next(iter(named.values()), None) if isinstance(named, dict) else named
    of_class = {**dict.fromkeys(names, first), **(named if isinstance(named, dict) else {})}
    joints = {key: _joint_names(file, of_class[key], shape[0], source) for key in names}
    return _Dataset(document, names, joints, *shape)


def _joint_names(file: Path, names: Any, number: int, source: Source) -> tuple[str, ...]:
    """Those that `kpt_names` has for a class, or those of the skeleton."""
    if names is None and source.joints is None:
        hint = f"--skeleton NAME says what the {number} joints are"
        raise UserError(f"{file}: kpt_names", "names of the joints", "none", hint)
    if names is None and source.joints is not None:
        if len(source.joints) != number:
            found = f"{len(source.joints)} of the skeleton"
            raise UserError(f"{file}: kpt_shape", f"{number} joints", found)
        return source.joints
    if (
        not isinstance(names, list)
        or not all(isinstance(name, str) for name in names)
        or len(names) != number
        or len(set(names)) < number
    ):
        raise UserError(f"{file}: kpt_names", f"{number} different names", shown(names))
    return tuple(names)


def _images(file: Path, document: Mapping[str, Any], split: str) -> tuple[Path, list[Path]]:
    """Return the folder of all images of a split, and the images."""
    if split not in SPLITS:
        raise UserError.not_one_of("--split", SPLITS, split)
    entry = document.get(split)
    entries: list[Any] = entry if isinstance(entry, list) else [entry]
    if not entry or not all(isinstance(name, str) for name in entries):
        known = [name for name in SPLITS if document.get(name)]
        hint = f"--split {known[0]} has" if known else ""
        raise UserError(f"{file}: {split}", "a folder of images", shown(entry), hint)
    base = file.parent / str(document.get("path") or ".")
    roots = [base if base.is_dir() else file.parent, file.parent]
    folder = roots[0].resolve()
    images = [image for name in entries for image in _images_of(file, roots, name, split)]
    if not all(image.is_relative_to(folder) for image in images):
        raise UserError(f"{file}: {split}", f"images below {folder}", str(images[0]))
    return folder, images


def _images_of(file: Path, roots: Sequence[Path], name: str, split: str) -> Iterator[Path]:
    """Images of a folder, or those that a `.txt` file lists."""
    if "\0" in name:
        raise UserError(f"{file}: {split}", "a folder of images", shown(name))
    found = next((root / name for root in roots if (root / name).exists()), None)
    # Exports write `../train/images` for a folder beside data.yaml.
    if found is None and name.startswith("../"):
        found = next((root / name[3:] for root in roots if (root / name[3:]).exists()), None)
    if found is None:
        raise UserError(f"{file}: {split}", "a folder of images", f"{name}, which does not exist")
    if found.is_dir():
        files = sorted(path for path in found.rglob("*") if path.suffix.lower() in SUFFIXES)
    else:
        lines = [line for line in read_text(found).splitlines() if line.strip(" \t\0")]
        if any("\0" in line for line in lines):
            raise UserError(str(found), "names of images", "null characters")
        files = [found.parent / line.strip() for line in lines]
    if not files:
        raise UserError(f"{file}: {split}", "images", f"none in {found}")
    yield from (path.resolve() for path in files)


def _left_out(images: Sequence[Path]) -> Counter[str]:
    """Count the files of labels that belong to no image, beside those that were read."""
    folders = {_label_file(image).parent: image.parent for image in images}
    orphans = 0
    for labels, folder in folders.items():
        stems = {path.stem for path in folder.iterdir() if path.suffix.lower() in SUFFIXES}
        stems.add("classes")  # a list of classes, which some programs write there
        orphans += sum(path.stem not in stems for path in labels.glob("*.txt"))
    return Counter({"files of labels without an image": orphans})


def _label_file(image: Path) -> Path:
    """The file of labels: the last folder `images` of the path is `labels`."""
    parts = list(image.with_suffix(".txt").parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return Path(*parts)
