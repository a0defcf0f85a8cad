"""Every runtime gives what eager PyTorch gives, from graphs in which batch norm has folded."""

from __future__ import annotations

import copy
import importlib
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor

from vipnas.arch.image import Arch
from vipnas.config.search import RuntimeName
from vipnas.models.elastic import ElasticBatchNorm2d, ElasticConv2d, ElasticDeconv2d
from vipnas.models.posenet import PoseNet
from vipnas.runtimes import runtime
from vipnas.runtimes.runtime import (
    fill_for_timing,
    open_session,
    runtime_version,
    to_onnx_quickly,
    torch_session,
)
from vipnas.space.image import SearchSpace

ONNX_RUNTIMES: tuple[RuntimeName, ...] = ("onnxruntime", "openvino")


@pytest.fixture(scope="module")
def arch(tiny_space: SearchSpace) -> Arch:
    return tiny_space.max_arch()


@pytest.fixture(scope="module")
def network(arch: Arch) -> PoseNet:
    torch.manual_seed(0)
    network = PoseNet(arch).eval().requires_grad_(False)
    fill_for_timing(network)
    for module in network.modules():  # so that folding it wrong shows
        if isinstance(module, ElasticBatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean):
                torch.nn.init.normal_(tensor, 1.0, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network


@pytest.fixture(scope="module")
def images(arch: Arch) -> Tensor:
    return torch.randn(2, 3, *arch.input_hw, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def model(network: PoseNet, images: Tensor) -> bytes:
    return to_onnx_quickly(network, images)


@pytest.mark.parametrize("name", ONNX_RUNTIMES)
def test_a_session_gives_what_eager_gives(
    name: RuntimeName, model: bytes, network: PoseNet, images: Tensor
) -> None:
    pytest.importorskip(name)
    expected = network(images).numpy()
    found = open_session(model, name)(images.numpy())
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", ONNX_RUNTIMES)
def test_maps_are_handed_over_in_order_and_for_good(
    name: RuntimeName, model: bytes, images: Tensor
) -> None:
    pytest.importorskip(name)
    run = open_session(model, name)
    found = run(images.numpy())
    kept = found.copy()
    assert found.flags.c_contiguous
    assert not np.array_equal(run(-images.numpy()), kept)
    np.testing.assert_array_equal(found, kept)


def test_a_torch_session_gives_what_eager_gives(network: PoseNet, images: Tensor) -> None:
    """It takes the network over: its layout, its precision."""
    expected = network(images).numpy()
    found = torch_session(copy.deepcopy(network), "torch")(images.numpy())
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
    rough = torch_session(copy.deepcopy(network), "torch", precision="bf16")(images.numpy())
    assert 1e-4 < np.abs(rough - expected).max() / np.abs(expected).max() < 0.1


def test_onnx_runtime_has_folded_batch_norm(model: bytes, network: PoseNet, tmp_path: Path) -> None:
    """Asked what it runs in the end."""
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    graph = onnx.load(tmp_path / "optimised.onnx").graph
    check_folded(Counter(node.op_type for node in graph.node), network, "Conv", "ConvTranspose")


def test_openvino_has_folded_batch_norm(model: bytes, network: PoseNet) -> None:
    openvino = pytest.importorskip("openvino")
    core = openvino.Core()
    running = core.compile_model(core.read_model(model), "CPU").get_runtime_model()
    kinds = Counter(node.get_rt_info()["layerType"].value for node in running.get_ops())
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


def test_a_runtime_that_is_not_installed_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ValueError, match=r"package openvino: .* 'vipnas\[openvino\]'"):
        runtime_version("openvino")


def test_what_a_runtime_cannot_do_is_refused(model: bytes) -> None:
    with pytest.raises(
        ValueError,
        match="precision bf16: found with onnxruntime, allowed are fp32, fp16, int8",
    ):
        open_session(model, "onnxruntime", precision="bf16")
    with pytest.raises(ValueError, match="runtime torch: opens no ONNX models"):
        open_session(model, "torch")
    with pytest.raises(ValueError, match="device cuda: "):
        open_session(model, "onnxruntime", device="cuda")


def test_a_device_has_a_name() -> None:
    assert len(runtime.device_name("cpu")) > 3
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="device cuda: this machine or this torch has none"):
            runtime.device_name("cuda")
