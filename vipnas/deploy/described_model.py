"""Run a model that a description describes.

N images, H W height and width of the model's input.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from vipnas.deploy.description import UINT8, Array, ImageInput, Outputs
from vipnas.errors import UserError
from vipnas.runtimes.foreign import open_foreign
from vipnas.runtimes.runtime import ForeignModel, RunSettings, TensorFacts
from vipnas.runtimes.table import DEFAULT_RUNTIME
from vipnas.tables import check_known


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

    Attributes:
        path: The ONNX file.
        names: The outputs that `run` returns, in this order; None for all.

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
        self.names = names
        self._model: ForeignModel = open_foreign(path, runtime, settings)
        self._tensor = _image_tensor(self._model, image_input, path)
        self._input = _with_size(image_input, self._tensor, path)

    @property
    def input_hw(self) -> tuple[int, int]:
        """Height and width of the images that it takes."""
        assert self._input.hw is not None
        return self._input.hw

    @property
    def dtype(self) -> str:
        """NumPy's name of the type of its input."""
        return self._tensor.dtype

    @property
    def batch(self) -> int | None:
        """How many images it takes at once: 1, or None for any number."""
        return self._tensor.shape[0]

    def run(self, images_NHW3: UINT8) -> dict[str, Array]:
        """Return the outputs by name for RGB images of the model's size."""
        outputs = self._model.run({self._tensor.name: self._packed(images_NHW3)})
        if self.names is None:
            return outputs
        # tf2onnx keeps the ":0" of TensorFlow's names.
        known = {name.removesuffix(":0"): array for name, array in outputs.items()} | outputs
        for name in self.names:
            if name not in known:
                check_known(name, outputs, f"{self.path}: output")
        return {name: known[name] for name in self.names}

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
