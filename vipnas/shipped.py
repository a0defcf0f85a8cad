"""Find the search spaces and experiments that ship with vipnas by name. No torch here."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from vipnas.errors import UserError

Kind = Literal["search_spaces", "experiments"]
Suffix = Literal["", ".yaml", ".json"]

PACKAGE = Path(__file__).resolve().parent
SHIPPED_FILES = {
    "search_spaces": ("*.yaml", "*/*.json"),
    "experiments": ("*.yaml",),
}


def find_shipped(
    kind: Kind, name_or_path: str, suffix: Suffix = "", place: str | None = None
) -> Path:
    """Return the path of an existing file, otherwise that of the shipped file with that name.

    Args:
        kind: The directory of shipped files.
        name_or_path: A path, or a name as in the checkout. The directory `kind` and the suffix may
            be left out: `tiny`, `tiny.yaml`, `search_spaces/tiny.yaml`.
        suffix: Only files with this suffix count as shipped: `.yaml` for spaces, `.json` for
            architectures.
        place: Where the name was given, for the error; by default the name itself.

    Raises:
        UserError: If neither exists. It lists the names and suggests the nearest one.
    """
    if Path(name_or_path).is_file():
        return Path(name_or_path)
    shipped = {
        known: path for known, path in shipped_files(kind).items() if path.suffix.endswith(suffix)
    }
    name = name_or_path.removeprefix(f"{kind}/")
    for known, path in shipped.items():
        if name in (known, known + path.suffix):
            return path
    place = place or name_or_path or "''"
    raise UserError.not_one_of(place, shipped, name, expected=f"a file, or one of {kind}/:")


def find_beside(file: Path, name: str) -> Path | None:
    """Return the file that a `name` in `file` means if it is stored beside it.

    It may be written without its suffix `.yaml`. Shipped experiments name shipped files only.
    """
    if file.resolve().parent == shipped_directory("experiments").resolve():
        return None
    candidates = (file.parent / name, file.parent / f"{name}.yaml")
    return next((path for path in candidates if path.is_file() and path != file), None)


def shipped_files(kind: Kind) -> dict[str, Path]:
    """Return the path of every shipped file by its name, such as `published/s_vipnas_res50`."""
    directory = shipped_directory(kind)
    paths = (path for pattern in SHIPPED_FILES[kind] for path in directory.glob(pattern))
    return {path.relative_to(directory).with_suffix("").as_posix(): path for path in sorted(paths)}


def shipped_directory(kind: Kind) -> Path:
    """Return the directory: inside the package in a wheel, beside it in a checkout."""
    inside = PACKAGE / kind
    return inside if inside.is_dir() else PACKAGE.parent / kind
