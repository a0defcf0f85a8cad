"""A trained network as an ONNX file, compared with PyTorch before it is there."""

from __future__ import annotations

import copy
import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vipnas.files import write_atomically
from vipnas.models.posenet import PoseNet, extract

# Every operator needed is in 18, hard swish and layer norm included; newer ones shut out runtimes.
OPSET = 18
# Of the largest heatmap value. Trained networks differ by 1e-6 to 1e-4.
TOLERANCE = 1e-3
# A network may amplify rounding beyond that (untrained ones: to 3e-2, measured by running it in
# float64). Then this many times its own rounding is allowed.
TIMES_ROUNDING = 10
BATCH_SIZES = (1, 3)
METADATA_KEY = "vipnas_arch"


@dataclass(frozen=True)
class Exported:
    """An exported file, and how far its heatmaps lie from those of eager PyTorch.

    `difference`: the largest difference of any heatmap value, over the largest heatmap value.
    """

    path: Path
    opset: int
    difference: float
    tolerance: float

    def __str__(self) -> str:
        return (
            f"{self.path}: ONNX opset {self.opset}, compared with PyTorch: largest difference"
            f" {self.difference:.1e} of the largest heatmap value (tolerance {self.tolerance:.1e})"
        )


def export_onnx(network: PoseNet, path: Path) -> Exported:
    """Write the network as ONNX, in evaluation mode and float32; `network` itself stays as it is.

    Input `images` (N, 3, H, W) of any N, normalised as in training; output `heatmaps`
    (N, K, H / 4, W / 4) of networks with the published strides. ONNX Runtime runs the model on
    random images, at batch sizes 1 and 3: only where it agrees with eager PyTorch does the file
    appear, whole. Raises ValueError in one line where it does not, where the network cannot be
    exported, and where the extra `vipnas[export]` is not installed.
    """
    _check_extra()
    eager = extract(network, network.arch).cpu().float().eval().requires_grad_(False)
    try:
        model = _to_onnx(eager)
        difference, tolerance = _compare(model, eager)
    except Exception as error:  # the libraries' own errors share no class
        reason = (str(error).strip().splitlines() or [""])[0]
        raise ValueError(f"{path}: not exported: {type(error).__name__}: {reason}") from error
    if not difference <= tolerance:  # so that what is not a number fails
        raise ValueError(
            f"{path}: not exported: heatmaps of ONNX Runtime and PyTorch differ by"
            f" {difference:.1e} of the largest value, allowed is {tolerance:.1e}"
        )
    write_atomically(path, model)
    return Exported(path, OPSET, difference, tolerance)


def _check_extra() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f"ONNX needs the package {error.name}: install the extra, pip install 'vipnas[export]'"
        ) from None


def _to_onnx(network: PoseNet) -> bytes:
    """A serialised model; without the exporter's notes on every node, which hold paths of this
    machine."""
    import onnx

    batch = torch.export.Dim("batch", min=1)
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            network,
            # Any batch size but 1, which would be taken for a constant.
            (_random_images(network, 2),),
            input_names=["images"],
            output_names=["heatmaps"],
            dynamic_shapes=({0: batch},),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    graph = model.graph
    tensors = (*graph.input, *graph.output, *graph.value_info, *graph.initializer)
    for noted in (graph, *graph.node, *tensors):
        del noted.metadata_props[:]
        noted.doc_string = ""
    onnx.helper.set_model_props(model, {METADATA_KEY: network.arch.to_json()})
    onnx.checker.check_model(model, full_check=True)
    serialised: bytes = model.SerializeToString()
    return serialised


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter tells of torchvision and of its own future; errors still come."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def _compare(model: bytes, eager: PoseNet) -> tuple[float, float]:
    """Largest relative difference over all batch sizes, and what is allowed for this network."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    exact = copy.deepcopy(eager).double()
    differences, roundings = [], []
    for batch_size in BATCH_SIZES:
        images = _random_images(eager, batch_size)
        heatmaps = eager(images)
        (found,) = session.run(["heatmaps"], {"images": images.numpy()})
        differences.append(relative_difference(torch.from_numpy(found), heatmaps))
        roundings.append(relative_difference(heatmaps.double(), exact(images.double())))
    return _largest(differences), max(TOLERANCE, TIMES_ROUNDING * _largest(roundings))


def _largest(values: Sequence[float]) -> float:
    """Unlike `max`, not a number if any value is none."""
    return float(torch.tensor(values).max())


def relative_difference(found: Tensor, wanted: Tensor) -> float:
    """Largest absolute difference over the largest absolute value of `wanted`.

    Infinite where the shapes differ; not a number, or infinite, where a value is not finite.
    """
    if found.shape != wanted.shape:
        return math.inf
    # Below the smallest normal number nothing is precise: an untrained network gives all but zero.
    scale = wanted.abs().max().clamp(min=torch.finfo(torch.float32).tiny)
    return float((found - wanted).abs().max() / scale)


def _random_images(network: PoseNet, batch_size: int) -> Tensor:
    generator = torch.Generator().manual_seed(batch_size)
    return torch.randn(batch_size, 3, *network.arch.input_hw, generator=generator)
