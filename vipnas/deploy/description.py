"""Models that vipnas did not export, described by a few lines of YAML.

Descriptions of common models are shipped by name (`presets/`). A description of your own is
complete, or names a preset and overrides some of its values:

    model: person.onnx        # beside this file
    preset: yolox
    input: {colour: rgb}

N images, H W height and width of the model's input.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from vipnas.errors import UserError, shown
from vipnas.files import Strict, parse, read_yaml
from vipnas.tables import check_known

UINT8 = NDArray[np.uint8]
Array = NDArray[Any]
Outputs = Mapping[str, Array]
Kind = Literal["detectors", "poses"]
T = TypeVar("T")

MAX_VALUE, MIN_STD = 1e6, 1e-6  # beyond these, float32 images would overflow
PRESETS = Path(__file__).resolve().parent / "presets"


@dataclass(frozen=True)
class ImageInput(Strict):
    """How pixels enter a model.

    Attributes:
        colour: The order of the channels.
        hw: Height and width, for a model of any size. None for a model of a fixed size.
        mean: Subtracted from values in 0..255, in the order of `colour`.
        std: What the difference is divided by.
        layout: The order of the axes.
    """

    colour: Literal["rgb", "bgr"]
    hw: tuple[int, int] | None = None
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    layout: Literal["nchw", "nhwc"] = "nchw"

    def __post_init__(self) -> None:
        if not max(map(abs, self.mean)) <= MAX_VALUE:
            raise UserError("mean", f"numbers up to {MAX_VALUE:g}", str(list(self.mean)))
        if not MIN_STD <= min(self.std) <= max(self.std) <= MAX_VALUE:
            expected = f"numbers from {MIN_STD:g} to {MAX_VALUE:g}"
            raise UserError("std", expected, str(list(self.std)))
        if self.hw is not None and min(self.hw) < 1:
            raise UserError("hw", "sizes above 0", str(list(self.hw)))

    @property
    def is_plain(self) -> bool:
        """Whether values stay as they are, 0..255."""
        return not any(self.mean) and set(self.std) == {1.0}


@dataclass(frozen=True)
class Described:
    """A model file and its description, as plain values.

    Attributes:
        model: The ONNX file.
        values: The other values of the description, with those of its preset.
        place: Where the values are from, for errors.
        folder: The first folder to search for files that the values name.
    """

    model: Path
    values: Mapping[str, Any]
    place: str
    folder: Path = Path()


def preset_names(kind: Kind) -> list[str]:
    """Return the names of the shipped descriptions."""
    return sorted(path.stem for path in (PRESETS / kind).glob("*.yaml"))


def find_description(kind: Kind, spec: str) -> Described:
    """Read the description of a model.

    Args:
        kind: What the model is for.
        spec: `PRESET:FILE.onnx`, a description `FILE.yaml` that names its model, or `FILE.onnx`
            with a description of the same name beside it.

    Raises:
        UserError: The description is missing or not valid.
    """
    preset, colon, file = spec.partition(":")
    if len(preset) > 1 and colon and not Path(spec).exists():  # C:... is a drive
        check_known(preset, preset_names(kind), f"{spec}: preset")
        return Described(Path(file), _preset(kind, preset), f"preset {preset}")
    path = Path(spec)
    described = path.with_suffix(".yaml") if path.suffix == ".onnx" else path
    if not described.is_file():
        if path.suffix == ".yaml":
            raise UserError(str(path), "a description", "no such file")
        known = ", ".join(preset_names(kind))
        raise UserError(
            spec,
            "PRESET:FILE.onnx, or a description FILE.yaml beside FILE.onnx",
            "no such file",
            f"presets: {known}",
        )
    return _read(kind, described, path if path.suffix == ".onnx" else None)


def _read(kind: Kind, path: Path, model: Path | None) -> Described:
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise UserError(str(path), "keys and values", shown(values))
    named = values.pop("model", None)
    if model is None:
        model = path.parent / _word(named, f"{path}: model")
    if "preset" in values:
        preset = _word(values.pop("preset"), f"{path}: preset")
        check_known(preset, preset_names(kind), f"{path}: preset")
        values = _merged(_preset(kind, preset), values)
    return Described(model, values, str(path), path.parent)


def _word(value: Any, place: str) -> str:
    if not isinstance(value, str):
        raise UserError(place, "a name", shown(value))
    return value


def _preset(kind: Kind, name: str) -> dict[str, Any]:
    found: dict[str, Any] = read_yaml(PRESETS / kind / f"{name}.yaml")
    return found


def _merged(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return your own values over those of a preset. Output forms share no options."""
    merged = {**base, **own}
    for key, value in own.items():
        below = base.get(key)
        if isinstance(value, dict) and isinstance(below, dict):
            is_other = value.get("form", below.get("form")) != below.get("form")
            merged[key] = value if is_other else {**below, **value}
    return merged


def parse_output(
    forms: Mapping[str, type[T]], raw: Mapping[str, Any], place: str
) -> tuple[T, list[str] | None]:
    """Return the output form of a description, and the names of the outputs that it takes.

    Args:
        forms: The known forms, each a dataclass of its options.
        raw: `form`, the form's options, and `names`: outputs in the order that the form takes;
            without it, all of them in the order of the model.
        place: Where `raw` is from, for errors.
    """
    options = dict(raw)
    form, names = _word(options.pop("form", None), f"{place}: form"), options.pop("names", None)
    check_known(form, forms, f"{place}: form")
    if names is not None and not (isinstance(names, list) and set(map(type, names)) == {str}):
        raise UserError(f"{place}: names", "a list of the outputs' names", shown(names))
    return parse(forms[form], options, place), names
