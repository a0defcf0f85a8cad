"""A trained network as a file for other runtimes, compared with PyTorch before it is there."""

from __future__ import annotations

import copy
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import torch
from torch import Tensor, nn

from vipnas.arch.image import Arch
from vipnas.data.codecs.heatmap import HeatmapCodec
from vipnas.deploy.deployed import DeployedNet
from vipnas.files import write_atomically
from vipnas.models.file import ModelHeader
from vipnas.models.posenet import PoseNet, extract
from vipnas.runtimes import exported as files
from vipnas.runtimes.onnx_model import OPSET, check_extra, quantise, to_onnx

Format = Literal["onnx", "openvino", "torch"]
FilePrecision = Literal["fp32", "fp16", "int8"]
SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "openvino": ".xml", "torch": ".pt2"}

# Of the largest value. Trained networks differ by 1e-6 to 1e-4 in float32.
TOLERANCES: dict[FilePrecision, float] = {"fp32": 1e-3, "fp16": 2e-2, "int8": 0.5}
# A network may amplify rounding beyond that (untrained ones: to 3e-2, measured by running it in
# float64). Then this many times its own rounding is allowed.
TIMES_ROUNDING = 10
# Of joints found in the file: half of them may lie no further from those of PyTorch.
MOVED_PX = 1.0
BATCH_SIZES = (1, 3)
InputsOf = Callable[[int], dict[str, Tensor]]


@dataclass(frozen=True)
class Form:
    """What kind of file. `with_preprocessing`: see `DeployedNet`. With a codec in `decode` the file
    gives joints, found by its rule, and not heatmaps."""

    format: Format = "onnx"
    precision: FilePrecision = "fp32"
    with_preprocessing: bool = False
    decode: HeatmapCodec | None = None

    def __str__(self) -> str:
        opset = f" opset {OPSET}" if self.format == "onnx" else ""
        return f"{self.format}{opset}, {self.precision}"


@dataclass(frozen=True)
class Exported:
    """An exported file, and how far its output lies from that of eager PyTorch in float32.

    `difference`: the largest difference of any value (of joints: of any score), over the largest.
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
) -> Exported:
    """Write the network, in evaluation mode; `network` itself stays as it is.

    The one input is `images` of any batch size, the one output `heatmaps` or `keypoints`: see
    `DeployedNet`. OpenVINO's weights lie beside the `.xml`, in a `.bin`. `crops_N3HW`, uint8 RGB,
    are what int8 is calibrated with and every precision compared on; without them random images are
    compared. `header` is kept in the file, so that it can be run without being told its skeleton
    and codec.

    The runtime that the file is for runs it at batch sizes 1 and 3: only where it agrees with eager
    PyTorch does the file appear, whole. Raises ValueError in one line where it does not, where the
    network cannot be exported so, and where the extra `vipnas[export]` or `vipnas[openvino]` is not
    installed.
    """
    _check_form(path, form, network.arch, crops_N3HW)
    eager = extract(network, network.arch).cpu().float().eval().requires_grad_(False)
    reference = DeployedNet(eager, form.with_preprocessing, form.decode).eval()
    images_of = partial(_images, reference, network.arch, crops_N3HW)
    notes = {
        files.ARCH_NOTE: network.arch.to_json(),
        files.INPUT_NOTE: files.PIXELS if form.with_preprocessing else files.NORMALISED,
        files.OUTPUT_NOTE: files.KEYPOINTS if form.decode else files.HEATMAPS,
        **({files.HEADER_NOTE: header.to_json()} if header is not None else {}),
    }
    write = partial(_write, form=form, notes=notes, crops_N3HW=crops_N3HW)
    return _export(reference, images_of, path, form, write)


def export_onnx(network: PoseNet, path: Path, header: ModelHeader | None = None) -> Exported:
    """`export_network` as ONNX in float32, normalised images to heatmaps."""
    return export_network(network, path, Form(), header=header)


def export_module(eager: nn.Module, inputs_of: InputsOf, path: Path, arch_json: str) -> Exported:
    """What `export_onnx` says of any network to heatmaps, with inputs by their names.

    The module is put into evaluation mode, on the CPU, in float32. `inputs_of(n)` gives random
    inputs of batch size n; `arch_json` is kept in the file.
    """
    eager = eager.cpu().float().eval().requires_grad_(False)

    def write(module: nn.Module, inputs: Mapping[str, Tensor], path: Path) -> None:
        path.write_bytes(to_onnx(module, inputs, files.HEATMAPS, {files.ARCH_NOTE: arch_json}))

    return _export(eager, inputs_of, path, Form(), write)


def random_images(arch: Arch, batch_size: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(batch_size)
    return {"images": torch.randn(batch_size, 3, *arch.input_hw, generator=generator)}


def relative_difference(found: Tensor, wanted: Tensor) -> float:
    """Largest absolute difference over the largest absolute value of `wanted`.

    Infinite where the shapes differ; not a number, or infinite, where a value is not finite.
    """
    if found.shape != wanted.shape:
        return math.inf
    # Below the smallest normal number nothing is precise: an untrained network gives all but zero.
    scale = wanted.abs().max().clamp(min=torch.finfo(torch.float32).tiny)
    return float((found - wanted).abs().max() / scale)


def _check_form(path: Path, form: Form, arch: Arch, crops_N3HW: Tensor | None) -> None:
    suffix = SUFFIXES[form.format]
    if path.suffix != suffix:
        raise ValueError(
            f"{path}: found {path.suffix!r}, format {form.format} is written to {suffix}"
        )
    if form.format == "torch" and form.precision == "int8":
        raise ValueError("int8: found format torch, allowed are onnx and openvino")
    if form.precision == "int8" and crops_N3HW is None:
        raise ValueError("int8: needs crops to calibrate with: --experiment FILE")
    if crops_N3HW is not None and tuple(crops_N3HW.shape[2:]) != arch.input_hw:
        raise ValueError(
            f"crops: found {list(crops_N3HW.shape[2:])}, the network's input is"
            f" {list(arch.input_hw)}"
        )


def _export(
    reference: nn.Module,
    inputs_of: InputsOf,
    path: Path,
    form: Form,
    write: Callable[[nn.Module, Mapping[str, Tensor], Path], None],
) -> Exported:
    """Write aside, open as users will, compare; then put in place, what others refer to first."""
    if form.format != "torch":
        check_extra("export", "onnx", "onnxruntime", "onnxscript")
    if form.format == "openvino":
        check_extra("openvino", "openvino")
    try:
        with TemporaryDirectory() as folder:
            candidate = Path(folder) / f"network{SUFFIXES[form.format]}"
            write(reference, inputs_of(2), candidate)
            run, _ = files.open_exported(candidate, torch.get_num_threads())
            difference, tolerance = _compare(run, reference, inputs_of, form)
            written = {part.suffix: part.read_bytes() for part in Path(folder).iterdir()}
    except Exception as error:  # the libraries' own errors share no class
        raise ValueError(f"{path}: not exported: {files.first_line(error)}") from error
    if not difference <= tolerance:  # so that what is not a number fails
        raise ValueError(
            f"{path}: not exported: the file's output and PyTorch's differ by {difference:.1e} of"
            f" the largest value, allowed is {tolerance:.1e}"
        )
    for suffix in sorted(written):  # .bin before .xml
        write_atomically(path.with_suffix(suffix) if len(written) > 1 else path, written[suffix])
    return Exported(path, form, difference, tolerance)


def _write(
    module: nn.Module,
    inputs: Mapping[str, Tensor],
    path: Path,
    form: Form,
    notes: Mapping[str, str],
    crops_N3HW: Tensor | None,
) -> None:
    assert isinstance(module, DeployedNet)
    if form.precision == "fp16" and form.format != "openvino":
        module = copy.deepcopy(module)
        module.network.half()
    if form.format == "torch":
        _write_torch(module, inputs["images"], path, notes)
        return
    model = to_onnx(module, inputs, module.output_name, notes)
    if form.precision == "int8":
        assert crops_N3HW is not None
        model = quantise(model, "images", module.images_from(crops_N3HW).numpy())
    if form.format == "onnx":
        path.write_bytes(model)
    else:
        _write_openvino(model, path, notes, half=form.precision == "fp16")


def _write_openvino(model: bytes, path: Path, notes: Mapping[str, str], half: bool) -> None:
    """`half` stores the weights in fp16; what they are computed in is said when the file is run."""
    import openvino

    converted = openvino.Core().read_model(model)
    for name, note in notes.items():
        converted.set_rt_info(note, name)
    openvino.save_model(converted, path, compress_to_fp16=half)


def _write_torch(module: nn.Module, images: Tensor, path: Path, notes: Mapping[str, str]) -> None:
    """A program of `torch.export`, without the paths of this machine that it remembers."""
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(module, (images,), dynamic_shapes=({0: batch},))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={files.NOTES_FILE: json.dumps(dict(notes))})
    path.write_bytes(buffer.getvalue())


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
    run: files.Run, reference: nn.Module, inputs_of: InputsOf, form: Form
) -> tuple[float, float]:
    """Largest relative difference over all batch sizes, and what is allowed for this network."""
    exact = copy.deepcopy(reference).double()
    differences, roundings = [], []
    for batch_size in BATCH_SIZES:
        inputs = inputs_of(batch_size)
        wanted = reference(*inputs.values())
        found = torch.from_numpy(run({name: value.numpy() for name, value in inputs.items()}))
        doubled = (x.double() if x.is_floating_point() else x for x in inputs.values())
        exactly = exact(*doubled)
        if form.decode and found.shape == wanted.shape:
            moved_px = (found - wanted)[..., :2].abs().amax(dim=2)
            if not moved_px.median() <= MOVED_PX:
                return math.inf, TOLERANCES[form.precision]
            found, wanted, exactly = (joints[..., 2] for joints in (found, wanted, exactly))
        differences.append(relative_difference(found, wanted))
        roundings.append(relative_difference(wanted.double(), exactly.double()))
    tolerance = max(TOLERANCES[form.precision], TIMES_ROUNDING * _largest(roundings))
    return _largest(differences), tolerance


def _largest(values: Sequence[float]) -> float:
    """Unlike `max`, not a number if any value is none."""
    return float(torch.tensor(values).max())
