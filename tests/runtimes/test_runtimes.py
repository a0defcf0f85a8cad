"""Every runtime of the table computes what eager PyTorch does, by files and without, and runs the
same operations either way."""

from __future__ import annotations

import copy
import ctypes
import gc
import itertools
import json
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from networks_fixture import ARCHS
from torch import Tensor

from vipnas.latency.measure import fill_for_timing
from vipnas.models.elastic import ElasticBatchNorm2d, ElasticConv2d, ElasticDeconv2d
from vipnas.models.posenet import PoseNet
from vipnas.runtimes import machine, onnx_model
from vipnas.runtimes.runtime import RunSettings, Runtime, WriteSettings
from vipnas.runtimes.table import RUNTIMES
from vipnas.space.image import SearchSpace

# An export takes seconds, on a busy machine many.
pytestmark = [pytest.mark.timeout(120), pytest.mark.usefixtures("onnx_operators")]

FILE_RUNTIMES = [name for name, runtime in RUNTIMES.items() if runtime.file is not None]
ONE = RunSettings(batch=1)
NOTES = {"vipnas": json.dumps({"text": 'a "quote" & <a> \\ é', "sigmas": [0.1, 2]})}


def installed(name: str) -> Runtime:
    runtime = RUNTIMES[name]
    for package in (*runtime.packages, *(runtime.file.packages if runtime.file else ())):
        pytest.importorskip(package)
    return runtime


@pytest.fixture(scope="module", params=ARCHS)
def network(request: pytest.FixtureRequest) -> PoseNet:
    """With batch norms that show where they are folded wrongly."""
    torch.manual_seed(0)
    network = PoseNet(ARCHS[request.param]).eval().requires_grad_(False)
    fill_for_timing(network)
    for module in network.modules():
        if isinstance(module, ElasticBatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            for tensor in (module.weight, module.bias, module.running_mean):
                torch.nn.init.normal_(tensor, 1.0, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(2, 3, 64, 48, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def shipped(network: PoseNet, images: Tensor) -> bytes:
    return onnx_model.to_onnx(network, {"images": images}, "heatmaps", NOTES)


@pytest.fixture(scope="module")
def quick(network: PoseNet, images: Tensor) -> bytes:
    return onnx_model.to_onnx_quickly(network, {"images": images[:1]})


# Programs of torch.export take seconds; this one is written to a file below.
OPENED_SLOWLY = ("inverted_residual", "torch-export")
OPENED_QUICKLY = [
    pytest.param(*pair, marks=[pytest.mark.slow] * (pair == OPENED_SLOWLY))
    for pair in itertools.product(ARCHS, RUNTIMES)
    if pair[1] != "torch-compiled"
]


@pytest.mark.parametrize(("network", "name"), OPENED_QUICKLY, indirect=["network"])
def test_a_network_opened_quickly_gives_what_eager_gives(
    name: str, network: PoseNet, images: Tensor
) -> None:
    """No later run changes its output, and libraries' outputs are in the order of memory."""
    runtime = installed(name)
    expected = network(images).numpy()
    session = runtime.load(copy.deepcopy(network), {"images": images}, RunSettings())
    found = session({"images": images.numpy()})
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
    kept = found.copy()
    assert found.flags.c_contiguous or not runtime.packages
    assert not np.array_equal(session({"images": -images.numpy()}), kept)
    np.testing.assert_array_equal(found, kept)


@pytest.mark.parametrize("network", ["inverted_residual"], indirect=True)
@pytest.mark.parametrize("name", FILE_RUNTIMES)
def test_a_file_gives_what_eager_gives_and_keeps_its_notes(
    name: str,
    network: PoseNet,
    images: Tensor,
    shipped: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = installed(name).file
    assert file is not None

    def exported_before(*arguments: object) -> bytes:
        assert arguments == (network, {"images": images}, "heatmaps", NOTES)
        return shipped

    monkeypatch.setattr(onnx_model, "to_onnx", exported_before)
    path = tmp_path / f"network{file.suffix}"
    file.write(network, {"images": images}, path, WriteSettings(notes=NOTES))
    session, found_notes = file.open(path, RunSettings())
    assert found_notes == NOTES
    for batch_size in (1, 2):
        expected = network(images[:batch_size]).numpy()
        found = session({"images": images[:batch_size].numpy()})
        np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
    fixed, _ = file.open(path, ONE)
    np.testing.assert_allclose(
        fixed({"images": images[:1].numpy()}), expected[:1], atol=1e-4 * np.abs(expected).max()
    )


def test_eager_pytorch_computes_in_the_precision_asked_for(
    network: PoseNet, images: Tensor
) -> None:
    expected = network(images).numpy()
    settings = RunSettings(precision="bf16")
    session = RUNTIMES["torch"].load(copy.deepcopy(network), {"images": images}, settings)
    rough = session({"images": images.numpy()})
    assert 1e-4 < np.abs(rough - expected).max() / np.abs(expected).max() < 0.1


def optimised_by_onnxruntime(model: bytes, folder: Path) -> Counter[str]:
    """The operations that it runs in the end."""
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    graph = onnx.load(folder / "optimised.onnx").graph
    return Counter(node.op_type for node in graph.node)


def optimised_by_openvino(model: bytes, batch: int) -> Counter[str]:
    """The operations that it runs in the end; constants are none."""
    pytest.importorskip("openvino")
    from vipnas.runtimes.openvino import core

    read = core().read_model(model)
    read.reshape([batch, *list(read.input().get_partial_shape())[1:]])
    running = core().compile_model(read, "CPU").get_runtime_model()
    kinds = Counter(str(node.get_rt_info()["layerType"].value) for node in running.get_ops())
    return Counter({kind: count for kind, count in kinds.items() if kind != "Const"})


def test_onnx_runtime_runs_the_same_operations_by_either_exporter(
    quick: bytes, shipped: bytes, network: PoseNet, tmp_path: Path
) -> None:
    """A table of many is measured by the quick one, and what is shipped by the other."""
    kinds = optimised_by_onnxruntime(quick, tmp_path)
    assert kinds == optimised_by_onnxruntime(shipped, tmp_path)
    kinds["Conv"] += kinds["FusedConv"]  # with its activation
    check_folded(kinds, network, "Conv", "ConvTranspose")


def test_onnx_runtime_runs_the_same_operations_in_int8(
    quick: bytes, shipped: bytes, images: Tensor, tmp_path: Path
) -> None:
    both = [onnx_model.quantise(model, "images", images.numpy()[:1]) for model in (quick, shipped)]
    first, second = (optimised_by_onnxruntime(model, tmp_path) for model in both)
    assert first == second and first["QLinearConv"] > 0


def test_openvino_runs_the_same_operations_by_either_exporter(
    quick: bytes, shipped: bytes, network: PoseNet
) -> None:
    kinds = optimised_by_openvino(quick, 1)
    assert kinds == optimised_by_openvino(shipped, 1)
    check_folded(kinds, network, "Convolution", "Deconvolution")


def check_folded(kinds: Counter[str], network: PoseNet, conv: str, deconv: str) -> None:
    modules = Counter(type(module) for module in network.modules())
    assert modules[ElasticBatchNorm2d] > 0
    assert not any("BatchNorm" in kind for kind in kinds)
    assert (kinds[conv], kinds[deconv]) == (modules[ElasticConv2d], modules[ElasticDeconv2d])


def test_values_keep_their_size_through_a_network(shipped_space: SearchSpace) -> None:
    """With the weights of an untrained network they shrink at every layer, in deep ones until they
    are denormal numbers, which are slow."""
    arch = shipped_space.with_facts(input_hw=(64, 64)).min_arch()
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    untrained = PoseNet(arch).eval().requires_grad_(False)
    heatmaps = untrained(images).abs()
    fill_for_timing(untrained)
    assert 1e-5 < untrained(images).std() < 1e3
    assert heatmaps.max() < 1e-2 * untrained(images).std()  # of some ten layers


def test_what_a_runtime_cannot_do_is_refused() -> None:
    runtime = RUNTIMES["onnxruntime"]
    with pytest.raises(
        ValueError, match="precision: expected one of fp32, fp16, int8 with onnxruntime, got 'bf16'"
    ):
        runtime.check("bf16")
    with pytest.raises(ValueError, match="device: expected one of cpu with openvino, got 'cuda'"):
        RUNTIMES["openvino"].check("fp32", "cuda")


@pytest.mark.parametrize("network", ["residual"], indirect=True)
def test_a_device_that_this_library_was_not_built_for(quick: bytes) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    from vipnas.runtimes.onnxruntime import inference_session

    with pytest.raises(ValueError, match="device cuda: expected an onnxruntime with CUDA"):
        inference_session(quick, replace(ONE, device="cuda"))


class SignalStack(ctypes.Structure):
    """`stack_t` of sigaltstack(2)."""

    _fields_ = (("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("network", ["residual"], indirect=True)
def test_signals_find_their_stack_after_models_are_closed(quick: bytes) -> None:
    """OpenVINO moves it. A thread whose signal stack was freed dies of the next signal."""
    pytest.importorskip("openvino")
    from vipnas.runtimes.openvino import open_model

    opened = [open_model(quick, ONE) for _ in range(3)]
    while opened:
        del opened[0]  # the oldest first
    gc.collect()
    stack = SignalStack()
    assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack)) == 0
    maps = [line.split()[0].split("-") for line in Path("/proc/self/maps").read_text().splitlines()]
    start = stack.start or int(maps[0][0], 16)  # none: that of the thread itself
    assert any(int(first, 16) <= start < int(end, 16) for first, end in maps)


def test_a_device_has_a_name() -> None:
    assert len(machine.device_name("cpu")) > 3
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="device cuda: expected a GPU .* got none"):
            machine.device_name("cuda")
