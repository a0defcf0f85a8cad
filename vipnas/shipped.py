"""Search spaces and experiments that come with vipnas, found by name. No torch here."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from vipnas.files import did_you_mean

Kind = Literal["search_spaces", "experiments"]
Suffix = Literal["", ".yaml", ".json"]

PACKAGE = Path(__file__).resolve().parent
SHIPPED_FILES = {
    "search_spaces": ("*.yaml", "*/*.json"),
    "experiments": ("*.yaml",),
}


def find_shipped(kind: Kind, name_or_path: str, suffix: Suffix = "") -> Path:
    """The file itself where there is one at `name_or_path`, otherwise the shipped one of that name.

    A name is written as in the checkout, with or without the directory `kind` and the suffix:
    `tiny`, `tiny.yaml`, `search_spaces/tiny.yaml`, `published/s_vipnas_res50`. With a `suffix` only
    names of such files count: `.yaml` for spaces, `.json` for archs.
    Raises ValueError with the nearest name and all of them.
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
    raise ValueError(
        f"{name_or_path}: neither a file nor a name in {kind}/; {did_you_mean(name, shipped)}"
    )


def find_beside(file: Path, name: str) -> Path | None:
    """Return the file that a `name` in `file` means if that lies beside it.

    It may be written without its suffix `.yaml`. Shipped experiments name shipped files only.
    """
    if file.resolve().parent == shipped_directory("experiments").resolve():
        return None
    candidates = (file.parent / name, file.parent / f"{name}.yaml")
    return next((path for path in candidates if path.is_file() and path != file), None)


def shipped_files(kind: Kind) -> dict[str, Path]:
    """Path of every shipped file by its name, such as `published/s_vipnas_res50`."""
    directory = shipped_directory(kind)
    paths = (path for pattern in SHIPPED_FILES[kind] for path in directory.glob(pattern))
    return {path.relative_to(directory).with_suffix("").as_posix(): path for path in sorted(paths)}


def shipped_directory(kind: Kind) -> Path:
    """Inside the package where it was installed from a wheel; beside it in a checkout."""
    inside = PACKAGE / kind
    return inside if inside.is_dir() else PACKAGE.parent / kind
