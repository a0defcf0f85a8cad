"""Networks opened in the runtimes that will run them. The runtimes are imported when they are used.

`onnxruntime` and `openvino` take an ONNX model, `torch` (eager) and `torch-compiled` a network. All
take a CPU thread count and keep to it.
"""

from __future__ import annotations

import importlib.metadata
import io
import platform
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vipnas.config.search import Device, Precision, RuntimeName
from vipnas.models.elastic import ElasticConv2d, ElasticDeconv2d
from vipnas.runtimes.onnx_model import OPSET, check_extra

# Images (B, 3, H, W) in, heatmaps out, both float32 arrays.
Session = Callable[[np.ndarray], np.ndarray]

EXTRA_OF: dict[RuntimeName, str] = {"onnxruntime": "export", "openvino": "openvino"}
# What each may compute in. ONNX Runtime does as the model says, and bf16 models it runs none.
PRECISIONS: dict[RuntimeName, tuple[Precision, ...]] = {
    "onnxruntime": ("fp32", "fp16", "int8"),
    "openvino": ("fp32", "bf16", "fp16", "int8"),
    "torch": ("fp32", "bf16", "fp16"),
    "torch-compiled": ("fp32", "bf16", "fp16"),
}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def open_session(
    model: bytes,
    runtime: RuntimeName,
    threads: int = 1,
    precision: Precision = "fp32",
    device: Device = "cpu",
) -> Session:
    """An ONNX model with one input and one output, in ONNX Runtime or OpenVINO.

    `precision` is what OpenVINO computes the model's float32 operations in (int8: in float32, for
    the model says which are not); ONNX Runtime computes as the model says. Raises ValueError where
    the runtime is not installed or cannot do what is asked.
    """
    check_precision(runtime, precision)
    if runtime == "onnxruntime":
        return _onnxruntime_session(model, threads, device)
    if runtime == "openvino":
        return _openvino_session(model, threads, precision, device)
    raise ValueError(f"runtime {runtime}: opens no ONNX models; onnxruntime and openvino do")


def check_precision(runtime: RuntimeName, precision: Precision) -> None:
    if precision not in PRECISIONS[runtime]:
        allowed = ", ".join(PRECISIONS[runtime])
        raise ValueError(f"precision {precision}: found with {runtime}, allowed are {allowed}")


def _onnxruntime_session(model: bytes, threads: int, device: Device) -> Session:
    session = open_onnxruntime(model, threads, device)
    name = session.get_inputs()[0].name

    def run(images: np.ndarray) -> np.ndarray:
        found: np.ndarray = session.run(None, {name: images})[0]
        return found

    return run


def open_onnxruntime(model: bytes, threads: int, device: Device = "cpu") -> Any:
    """An `onnxruntime.InferenceSession` that keeps to so many threads."""
    check_extra(EXTRA_OF["onnxruntime"], "onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors
    # Threads that wait in a loop would take the core from the session that runs next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    provider = "CUDAExecutionProvider" if device == "cuda" else "CPUExecutionProvider"
    if provider not in onnxruntime.get_available_providers():
        raise ValueError(f"device {device}: this onnxruntime has no {provider}")
    return onnxruntime.InferenceSession(model, options, providers=[provider])


def _openvino_session(model: bytes, threads: int, precision: Precision, device: str) -> Session:
    if device != "cpu":
        raise ValueError(f"device {device}: openvino is run on the cpu")
    _, run = open_openvino(model, threads, precision)
    return lambda images: run([images])


def open_openvino(
    model: bytes | Path, threads: int, precision: Precision = "fp32"
) -> tuple[Any, Callable[[Any], np.ndarray]]:
    """The `openvino.Model` of an ONNX model or a file, and how to run it on so many threads of the
    CPU: inputs, as a list or by name, to the one output, which may change at the next run.

    It computes in that precision: left alone, OpenVINO takes bf16 where the processor has it. Maps
    leave it as they are inside, channels last, and are turned round here: OpenVINO's own way took
    0.1 ms, a tenth of a small network's time.
    """
    check_extra(EXTRA_OF["openvino"], "openvino")
    import openvino

    hint = {"fp32": "f32", "bf16": "bf16", "fp16": "f16", "int8": "f32"}[precision]
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": hint,
        # The caller pins; OpenVINO's own choice of cores would override that.
        "ENABLE_CPU_PINNING": False,
    }
    core = openvino.Core()
    read = core.read_model(model)
    has_maps = read.output().get_partial_shape().rank == 4
    if has_maps:
        steps = openvino.preprocess.PrePostProcessor(read)
        steps.output().model().set_layout(openvino.Layout("NCHW"))
        steps.output().tensor().set_layout(openvino.Layout("NHWC"))
        read = steps.build()
    request = core.compile_model(read, "CPU", settings).create_infer_request()

    def run(inputs: Any) -> np.ndarray:
        found: np.ndarray = request.infer(inputs, share_inputs=True, share_outputs=True)[0]
        return np.ascontiguousarray(found.transpose(0, 3, 1, 2)) if has_maps else found

    return read, run


def torch_session(
    network: nn.Module,
    runtime: RuntimeName,
    precision: Precision = "fp32",
    device: Device = "cpu",
) -> Session:
    """The network itself, eager or compiled; compiling takes about a minute at the first run.

    Threads are PyTorch's own setting (`torch.set_num_threads`), which holds for the process. A run
    on a GPU ends when the GPU is done.
    """
    place, dtype = torch.device(device), DTYPES[precision]
    # channels_last is the quicker layout for all but the smallest networks, compiled or not.
    network = network.eval().to(place, dtype)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    call: Callable[[Tensor], Tensor] = network
    if runtime == "torch-compiled":
        call = torch.compile(network)

    @torch.inference_mode()
    def run(images: np.ndarray) -> np.ndarray:
        images_B3HW = torch.from_numpy(images).to(place, dtype)
        heatmaps = call(images_B3HW.contiguous(memory_format=torch.channels_last))
        return heatmaps.float().cpu().numpy()  # the copy waits for the GPU

    return run


class HalfInside(nn.Module):
    """A module in float16 between a float32 input and a float32 output; its weights change."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module.half()

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.module(images.half())
        return out.float()


def to_onnx_quickly(module: nn.Module, example: Tensor) -> bytes:
    """An ONNX model of exactly the example's shape, for timing.

    By the older exporter, which takes a tenth of the time of the one behind `export_onnx`, and
    without folding constants, which takes half of the rest and is done by the runtimes anyway; all
    give the same operations in the end.
    """
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of its deprecation, and of shapes taken for constants
        torch.onnx.export(
            module.eval(),
            (example,),
            buffer,  # type: ignore[arg-type]
            dynamo=False,
            do_constant_folding=False,
            opset_version=OPSET,
            input_names=["images"],
            output_names=["heatmaps"],
        )
    return buffer.getvalue()


def fill_for_timing(module: nn.Module, seed: int = 0) -> None:
    """Weights under which values keep their size from layer to layer.

    With those of an untrained network they shrink at every layer, in a deep one until they are
    denormal numbers, with which a processor computes ten times slower.
    """
    generator = torch.Generator().manual_seed(seed)
    for layer in module.modules():
        if isinstance(layer, (ElasticConv2d, ElasticDeconv2d)):
            fan_in = layer.weight[0].numel()
            if isinstance(layer, ElasticDeconv2d):
                # Each output pixel sees a quarter of the kernel, of the channels of one group.
                fan_in = max(
                    1, layer.weight.shape[0] // layer.groups * layer.weight[0, 0].numel() // 4
                )
            nn.init.normal_(layer.weight, 0.0, fan_in**-0.5, generator=generator)


def runtime_version(runtime: RuntimeName) -> str:
    if runtime in ("torch", "torch-compiled"):
        return torch.__version__
    check_extra(EXTRA_OF[runtime], runtime)
    return importlib.metadata.version(runtime)


def device_name(device: Device) -> str:
    """What the processor or the GPU calls itself; of a processor also its architecture."""
    if device == "cuda":
        if not torch.cuda.is_available():
            raise ValueError("device cuda: this machine or this torch has none")
        return torch.cuda.get_device_name()
    return f"{_processor()}, {platform.machine()}"


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith(("model name", "Model")):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown processor"


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
