"""Models that vipnas did not export, described by a few lines of YAML.

Descriptions of common models are shipped by name (`presets/`). A description of your own is
complete, or names a preset and overrides some of its values:

    model: person.onnx        # beside this file
    preset: yolox
    input: {colour: rgb}

N images, H W height and width of the model's input.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from vipnas.errors import UserError, shown
from vipnas.files import Strict, parse, read_yaml
from vipnas.runtimes.foreign import open_foreign
from vipnas.runtimes.runtime import ForeignModel, RunSettings, TensorFacts
from vipnas.runtimes.table import DEFAULT_RUNTIME
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


@contextmanager
def outputs_of(place: str) -> Iterator[None]:
    """Name the model in the errors of a form that reads its outputs."""
    try:
        yield
    except UserError as error:
        raise error.inside(place) from None
    except ValueError as error:  # of numpy, for shapes that the form does not expect
        raise UserError(f"{place}: outputs", "shapes of the form", "others", str(error)) from None


class DescribedModel:
    """A model that takes images and gives outputs as its description says.

    Args:
        path: The ONNX file.
        image_input: How pixels enter it.
        names: The outputs to return, in this order; None for all.
        runtime: A row of the table of runtimes.
        settings: How it computes.

    Raises:
        UserError: The model does not take one image tensor of this form.
    """

    def __init__(
        self,
        path: Path,
        image_input: ImageInput,
        names: list[str] | None = None,
        runtime: str = DEFAULT_RUNTIME,
        settings: RunSettings | None = None,
    ) -> None:
        self.path = path
        self._names = names
        self._model: ForeignModel = open_foreign(path, runtime, settings)
        self._tensor = _image_tensor(self._model, image_input, path)
        self._input = _with_size(image_input, self._tensor, path)

    @property
    def input_hw(self) -> tuple[int, int]:
        """Height and width of the images that it takes."""
        assert self._input.hw is not None
        return self._input.hw

    @property
    def batch(self) -> int | None:
        """How many images it takes at once: 1, or None for any number."""
        return self._tensor.shape[0]

    def run(self, images_NHW3: UINT8) -> dict[str, Array]:
        """Return the outputs by name for RGB images of the model's size."""
        outputs = self._model.run({self._tensor.name: self._packed(images_NHW3)})
        if self._names is None:
            return outputs
        # tf2onnx keeps the ":0" of TensorFlow's names.
        known = {name.removesuffix(":0"): array for name, array in outputs.items()} | outputs
        for name in self._names:
            if name not in known:
                check_known(name, outputs, f"{self.path}: output")
        return {name: known[name] for name in self._names}

    def _packed(self, images_NHW3: UINT8) -> Array:
        images: Array = images_NHW3[..., ::-1] if self._input.colour == "bgr" else images_NHW3
        if not self._input.is_plain:
            mean, std = (
                np.array(values, np.float32) for values in (self._input.mean, self._input.std)
            )
            images = images.astype(np.float32)
            images -= mean
            images /= std
        if self._input.layout == "nchw":
            images = images.transpose(0, 3, 1, 2)
        return np.ascontiguousarray(images, np.dtype(self._tensor.dtype))


def _image_tensor(model: ForeignModel, image_input: ImageInput, path: Path) -> TensorFacts:
    if len(model.inputs) != 1:
        names = ", ".join(one.name for one in model.inputs)
        raise UserError(str(path), "one input, the image", f"{len(model.inputs)}: {names}")
    (tensor,) = model.inputs
    channel_axis = 1 if image_input.layout == "nchw" else 3
    if len(tensor.shape) != 4 or tensor.shape[channel_axis] not in (3, None):
        raise UserError(
            f"{path}: input {tensor.name}",
            f"images in layout {image_input.layout}",
            _shown(tensor.shape),
        )
    if tensor.shape[0] not in (None, 1):
        raise UserError(
            f"{path}: input {tensor.name}", "a batch of 1 or of any size", str(tensor.shape[0])
        )
    if not np.issubdtype(np.dtype(tensor.dtype), np.floating) and not image_input.is_plain:
        raise UserError(
            f"{path}: input {tensor.name}",
            f"no mean and std for values of {tensor.dtype}",
            f"{list(image_input.mean)} and {list(image_input.std)}",
        )
    return tensor


def _with_size(image_input: ImageInput, tensor: TensorFacts, path: Path) -> ImageInput:
    first = 2 if image_input.layout == "nchw" else 1
    height, width = tensor.shape[first : first + 2]
    if height is not None and width is not None:
        return replace(image_input, hw=(height, width))
    if image_input.hw is None:
        raise UserError(
            f"{path}: input.hw",
            "height and width in the description",
            "none",
            f"the model takes any size, {_shown(tensor.shape)}",
        )
    return image_input


def _shown(shape: tuple[int | None, ...]) -> str:
    return f"({', '.join('?' if size is None else str(size) for size in shape)})"


def unlike(expected: str, outputs: Outputs) -> UserError:
    """Return the error of outputs that do not fit a form."""
    found = ", ".join(f"{name} {_shown(array.shape)}" for name, array in outputs.items())
    return UserError("outputs", expected, found or "none")
