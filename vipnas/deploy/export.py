"""Export a trained network for another runtime, compared with PyTorch before the file appears."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from vipnas.arch.image import Arch
from vipnas.data.codecs.heatmap import HeatmapCodec
from vipnas.deploy.deployed import DeployedNet
from vipnas.errors import UserError, shown
from vipnas.files import write_atomically
from vipnas.models.header import ModelHeader
from vipnas.models.posenet import PoseNet, extract
from vipnas.runtimes import exported as files
from vipnas.runtimes.runtime import FileFormat, RunSettings, Session, WriteSettings
from vipnas.runtimes.table import (
    DEFAULT_RUNTIME,
    RUNTIMES,
    runtime_of_format,
)

# Of the largest value. Trained networks differ by 1e-6 to 1e-4 in float32.
TOLERANCES = {"fp32": 1e-3, "fp16": 2e-2, "int8": 0.5}
# An untrained network may amplify rounding beyond that. Then this many times its own rounding,
# found by running it in float64, is allowed.
TIMES_ROUNDING = 10
# The median distance allowed between the joints of the file and those of PyTorch.
MOVED_PX = 1.0
BATCH_SIZES = (1, 3)
InputsOf = Callable[[int], dict[str, Tensor]]


def default_format() -> str:
    """Return the name of the format that is exported unless another is named."""
    file = RUNTIMES[DEFAULT_RUNTIME].file
    assert file is not None
    return file.name


@dataclass(frozen=True)
class Form:
    """What kind of file to write.

    Attributes:
        format: The name of a `FileFormat`.
        precision: What weights are stored in.
        with_preprocessing: See `DeployedNet`.
        decode: The codec by which the file returns joints in place of heatmaps.
    """

    format: str = default_format()
    precision: str = "fp32"
    with_preprocessing: bool = False
    decode: HeatmapCodec | None = None

    @property
    def file(self) -> FileFormat:
        """The format's row; raises UserError for an unknown one."""
        return runtime_of_format(self.format)[1]

    def __str__(self) -> str:
        return f"{self.format} {self.file.detail}".rstrip() + f", {self.precision}"


@dataclass(frozen=True)
class Exported:
    """An exported file, compared with eager PyTorch in float32.

    Attributes:
        path: The file.
        form: What kind of file.
        difference: The largest difference of any value (of joints: of any score), over the largest.
        tolerance: The difference that was allowed.
    """

    path: Path
    form: Form
    difference: float
    tolerance: float

    def __str__(self) -> str:
        value = "score" if self.form.decode else "heatmap value"
        return (
            f"{self.path}: {self.form}, compared with PyTorch: largest difference"
            f" {self.difference:.1e} of the largest {value} (tolerance {self.tolerance:.1e})"
        )


def export_network(
    network: PoseNet,
    path: Path,
    form: Form,
    crops_N3HW: Tensor | None = None,
    header: ModelHeader | None = None,
    notes: Mapping[str, str] | None = None,
) -> Exported:
    """Export a network in evaluation mode; `network` itself does not change.

    The one input is `images` of any batch size, the one output `heatmaps` or `keypoints`: see
    `DeployedNet`. Weights of OpenVINO are in a `.bin` beside the `.xml`. The file appears only if
    its runtime agrees with eager PyTorch at batch sizes 1 and 3.

    Args:
        network: Any network of images.
        path: The file to write, with the suffix of the format.
        form: What kind of file.
        crops_N3HW: uint8 RGB. int8 is calibrated with them, and all precisions are compared on
            them. Without them, random images are compared.
        header: That of the model file, which the file keeps.
        notes: Further notes by key, which the file keeps.

    Raises:
        UserError: The file and PyTorch differ, the network cannot be exported in this form, or an
            extra of vipnas is not installed.
    """
    _check_form(path, form, network.arch, crops_N3HW)
    eager = extract(network, network.arch).cpu().float().eval().requires_grad_(False)
    reference = DeployedNet(eager, form.with_preprocessing, form.decode).eval()
    images_of = partial(_images, reference, network.arch, crops_N3HW)
    notes = {
        **(notes or {}),
        files.ARCH_NOTE: network.arch.to_json(),
        files.INPUT_NOTE: files.PIXELS if form.with_preprocessing else files.NORMALISED,
        files.OUTPUT_NOTE: files.KEYPOINTS if form.decode else files.HEATMAPS,
        **({files.HEADER_NOTE: header.to_json()} if header is not None else {}),
    }
    calibration = None if crops_N3HW is None else reference.images_from(crops_N3HW).numpy()
    settings = WriteSettings(form.precision, reference.output_name, notes, calibration)
    return _export(reference, images_of, path, form, settings)


def export_onnx(
    network: PoseNet,
    path: Path,
    header: ModelHeader | None = None,
    notes: Mapping[str, str] | None = None,
) -> Exported:
    """`export_network` as ONNX in float32, normalised images to heatmaps."""
    return export_network(network, path, Form(), header=header, notes=notes)


def export_module(
    eager: nn.Module,
    inputs_of: InputsOf,
    path: Path,
    arch_json: str,
    output_name: str = files.HEATMAPS,
) -> Exported:
    """Export any module of one output in the default form.

    Args:
        eager: The network, which is put into evaluation mode, on the CPU, in float32.
        inputs_of: Gives random inputs by name, of a batch size.
        path: The file to write.
        arch_json: Kept in the file.
        output_name: The name of the output.
    """
    eager = eager.cpu().float().eval().requires_grad_(False)
    settings = WriteSettings(output_name=output_name, notes={files.ARCH_NOTE: arch_json})
    return _export(eager, inputs_of, path, Form(), settings)


def random_images(arch: Arch, batch_size: int) -> dict[str, Tensor]:
    """Return normal random images, the same for every call."""
    generator = torch.Generator().manual_seed(batch_size)
    return {"images": torch.randn(batch_size, 3, *arch.input_hw, generator=generator)}


def relative_difference(found: Tensor, wanted: Tensor) -> float:
    """Return the largest absolute difference over the largest absolute value of `wanted`.

    Infinite where the shapes differ; NaN or infinite where a value is not finite.
    """
    if found.shape != wanted.shape:
        return math.inf
    # An untrained network gives values below the smallest normal number, where nothing is precise.
    scale = wanted.abs().max().clamp(min=torch.finfo(torch.float32).tiny)
    return float((found - wanted).abs().max() / scale)


def _check_form(path: Path, form: Form, arch: Arch, crops_N3HW: Tensor | None) -> None:
    file = form.file
    if path.suffix != file.suffix:
        raise UserError(
            str(path), f"the suffix {file.suffix} of format {form.format}", shown(path.suffix)
        )
    if form.precision not in file.precisions:
        raise UserError(
            "precision",
            f"one of {', '.join(file.precisions)} with format {form.format}",
            shown(form.precision),
        )
    if form.precision == "int8" and crops_N3HW is None:
        raise UserError("int8", "crops to calibrate with", "none", "name them by --experiment")
    if crops_N3HW is not None and tuple(crops_N3HW.shape[2:]) != arch.input_hw:
        raise UserError(
            "crops",
            f"the network's input size {list(arch.input_hw)}",
            str(list(crops_N3HW.shape[2:])),
        )


def _export(
    reference: nn.Module, inputs_of: InputsOf, path: Path, form: Form, settings: WriteSettings
) -> Exported:
    """Write a temporary file, compare it with PyTorch, then move it to its place."""
    runtime, file = runtime_of_format(form.format)
    runtime.check_installed(to_write=True)
    try:
        with TemporaryDirectory() as folder:
            candidate = Path(folder) / f"network{file.suffix}"
            file.write(reference, inputs_of(2), candidate, settings)
            session, _ = file.open(candidate, RunSettings(torch.get_num_threads()))
            difference, tolerance = _compare(session, reference, inputs_of, form)
            written = {part.suffix: part.read_bytes() for part in Path(folder).iterdir()}
    except Exception as error:  # the libraries' own errors share no class
        expected = f"a network that {form.format} can express"
        raise UserError(f"{path}: not exported", expected, files.first_line(error)) from error
    if not difference <= tolerance:  # so that NaN fails
        raise UserError(
            f"{path}: not exported",
            f"a difference to PyTorch of at most {tolerance:.1e} of the largest value",
            f"{difference:.1e}",
        )
    for suffix in sorted(written):  # .bin before .xml
        write_atomically(path.with_suffix(suffix) if len(written) > 1 else path, written[suffix])
    return Exported(path, form, difference, tolerance)


def _images(
    module: DeployedNet, arch: Arch, crops_N3HW: Tensor | None, batch_size: int
) -> dict[str, Tensor]:
    if crops_N3HW is not None:
        repeats = -(-batch_size // len(crops_N3HW))
        return {"images": module.images_from(crops_N3HW.repeat(repeats, 1, 1, 1)[:batch_size])}
    if not module.with_preprocessing:
        return random_images(arch, batch_size)
    generator = torch.Generator().manual_seed(batch_size)
    shape = (batch_size, *arch.input_hw, 3)
    return {"images": torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)}


@torch.no_grad()
def _compare(
    session: Session, reference: nn.Module, inputs_of: InputsOf, form: Form
) -> tuple[float, float]:
    """Return the largest relative difference over all batch sizes, and the network's tolerance."""
    allowed = TOLERANCES.get(form.precision, max(TOLERANCES.values()))
    exact = copy.deepcopy(reference).double()
    differences, roundings = [], []
    for batch_size in BATCH_SIZES:
        inputs = inputs_of(batch_size)
        wanted = reference(*inputs.values())
        found = torch.from_numpy(session({name: value.numpy() for name, value in inputs.items()}))
        doubled = (x.double() if x.is_floating_point() else x for x in inputs.values())
        exactly = exact(*doubled)
        if form.decode and found.shape == wanted.shape:
            moved_px = (found - wanted)[..., :2].abs().amax(dim=2)
            if not moved_px.median() <= MOVED_PX:
                return math.inf, allowed
            found, wanted, exactly = (joints[..., 2] for joints in (found, wanted, exactly))
        differences.append(relative_difference(found, wanted))
        roundings.append(relative_difference(wanted.double(), exactly.double()))
    tolerance = max(allowed, TIMES_ROUNDING * _largest(roundings))
    return _largest(differences), tolerance


def _largest(values: Sequence[float]) -> float:
    """Return the largest value; unlike `max`, NaN if any value is."""
    return float(torch.tensor(values).max())
