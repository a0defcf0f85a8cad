"""What is exported runs in ONNX Runtime as in PyTorch, and is not there when it does not."""

from __future__ import annotations

import logging
import math
import random
import sys
from collections import Counter
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from networks_fixture import ARCHS
from onnx_fixture import write_node_model
from published_fixture import read_reference, reference_images, reference_state
from torch import Tensor, nn

from vipnas.arch.image import Arch
from vipnas.arch.io import arch_from_json, read_arch
from vipnas.deploy import export
from vipnas.deploy.export import Exported, export_onnx, relative_difference
from vipnas.errors import UserError
from vipnas.models.elastic import ElasticConv2d, ElasticDeconv2d
from vipnas.models.posenet import PoseNet
from vipnas.models.published import from_published
from vipnas.runtimes import onnx_model
from vipnas.runtimes.exported import ARCH_NOTE, INPUT_NOTE, OUTPUT_NOTE, ExportedNetwork
from vipnas.runtimes.onnxruntime import OPSET
from vipnas.shipped import find_shipped
from vipnas.space.yaml import read_space

pytestmark = pytest.mark.usefixtures("onnx_operators")


def trained(arch: Arch, seed: int = 0) -> PoseNet:
    """As if trained: statistics that differ, and a spread near 1 in every layer's output."""
    network = PoseNet(arch)
    generator = torch.Generator().manual_seed(seed)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.get_buffer("running_mean").normal_(0, 0.1, generator=generator)
            layer.get_buffer("running_var").uniform_(0.5, 1.5, generator=generator)
            nn.init.uniform_(layer.weight, 0.5, 1.5, generator=generator)
            nn.init.normal_(layer.bias, 0, 0.1, generator=generator)
    for parameter in network.parameters():
        if parameter.dim() == 4:
            nn.init.normal_(parameter, 0, parameter[0].numel() ** -0.5, generator=generator)
    return network


def run(path: Path, images: Tensor) -> Tensor:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (heatmaps,) = session.run(["heatmaps"], {"images": images.numpy()})
    return torch.from_numpy(heatmaps)


@pytest.fixture(scope="module", params=ARCHS)
def exported(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[PoseNet, Exported]:
    """A network in training, and its export."""
    network = trained(ARCHS[request.param])
    path = tmp_path_factory.mktemp("export") / "new folder" / "network.onnx"
    return network, export_onnx(network, path)


def images_for(network: PoseNet, batch_size: int) -> Tensor:
    generator = torch.Generator().manual_seed(9)
    return torch.randn(batch_size, 3, *network.arch.input_hw, generator=generator)


@pytest.mark.parametrize("batch_size", [1, 5])
def test_the_file_computes_what_pytorch_computes(
    exported: tuple[PoseNet, Exported], batch_size: int
) -> None:
    network, result = exported
    images = images_for(network, batch_size)
    with torch.no_grad():
        wanted = network.eval()(images)
    network.train()
    assert wanted.std() > 0.1
    torch.testing.assert_close(run(result.path, images), wanted, rtol=0, atol=1e-4)


def test_the_file_says_what_it_is(exported: tuple[PoseNet, Exported]) -> None:
    network, result = exported
    model = onnx.load(result.path)
    (images,), (heatmaps,) = model.graph.input, model.graph.output
    assert (images.name, heatmaps.name) == ("images", "heatmaps")
    shapes = [
        [side.dim_param or side.dim_value for side in value.type.tensor_type.shape.dim]
        for value in (images, heatmaps)
    ]
    assert shapes == [["batch", 3, 64, 48], ["batch", 5, *network.arch.heatmap_hw]]
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", OPSET)]
    notes = {note.key: note.value for note in model.metadata_props}
    assert set(notes) == {ARCH_NOTE, INPUT_NOTE, OUTPUT_NOTE}
    assert arch_from_json(notes[ARCH_NOTE], "metadata") == network.arch


def test_the_file_is_simplified(exported: tuple[PoseNet, Exported]) -> None:
    """Batch norm folded, and none of what only moves shapes and constants about."""
    network, result = exported
    kinds = Counter(node.op_type for node in onnx.load(result.path).graph.node)
    modules = Counter(type(module) for module in network.modules())
    assert kinds["Conv"] == modules[ElasticConv2d]
    assert kinds["ConvTranspose"] == modules[ElasticDeconv2d]
    assert not kinds.keys() & {"BatchNormalization", "Identity", "Constant", "Shape", "Cast", "If"}


def test_the_file_tells_no_paths_of_this_machine(exported: tuple[PoseNet, Exported]) -> None:
    content = exported[1].path.read_bytes()
    assert b".py" not in content
    assert str(Path(export.__file__).parents[2]).encode() not in content


def test_the_result_tells_difference_and_tolerance(exported: tuple[PoseNet, Exported]) -> None:
    result = exported[1]
    assert 0 < result.difference < 1e-5
    assert result.tolerance == 1e-3
    assert str(result).endswith(
        f"difference {result.difference:.1e} of the largest heatmap value (tolerance 1.0e-03)"
    )
    assert f"opset {OPSET}" in str(result)


def test_the_network_and_the_logs_stay_as_they_were(
    exported: tuple[PoseNet, Exported], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, result = exported
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    again = trained(network.arch).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in network.state_dict().items())
    assert logging.getLogger("torch.onnx").level == logging.NOTSET
    # Precision and mode of the network do not matter.
    monkeypatch.setattr(onnx_model, "to_onnx", lambda *_: result.path.read_bytes())
    export_onnx(trained(network.arch).double().eval(), tmp_path / "double.onnx")
    assert (tmp_path / "double.onnx").read_bytes() == result.path.read_bytes()


def refused(network: PoseNet, path: Path) -> str:
    """The error line; the file stays as it was."""
    before = path.read_bytes() if path.exists() else None
    with pytest.raises(ValueError) as raised:
        export_onnx(network, path)
    assert "\n" not in str(raised.value)
    assert (path.read_bytes() if path.exists() else None) == before
    assert [child for child in path.parent.iterdir() if child != path] == []
    return str(raised.value)


def test_heatmaps_that_differ_are_no_success(
    exported: tuple[PoseNet, Exported], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, result = exported
    path = tmp_path / "network.onnx"
    monkeypatch.setattr(onnx_model, "to_onnx", lambda *_: result.path.read_bytes())
    other = trained(network.arch)
    with torch.no_grad():
        other.get_parameter("layers.heatmaps.conv.bias")[3] += 0.05
    assert f"{path}: not exported: expected a difference to PyTorch of at most 1.0e-03" in refused(
        other, path
    )
    path.write_bytes(b"of an earlier export")
    assert "got " in refused(other, path)
    with torch.no_grad():
        other.get_parameter("layers.heatmaps.conv.bias")[3] = math.nan
    assert "got nan" in refused(other, path)


def test_errors_of_the_libraries_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = PoseNet(ARCHS["residual"])
    monkeypatch.setattr(onnx_model, "to_onnx", lambda *_: b"no model")
    assert "express, got InvalidProtobuf: " in refused(network, tmp_path / "network.onnx")


def test_a_network_that_amplifies_rounding_is_allowed_its_own(
    exported: tuple[PoseNet, Exported], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, result = exported
    monkeypatch.setattr(onnx_model, "to_onnx", lambda *_: result.path.read_bytes())
    monkeypatch.setattr(export, "TIMES_ROUNDING", 10_000)
    tolerance = export_onnx(network, tmp_path / "network.onnx").tolerance
    assert 10_000 * 1e-7 < tolerance < 10_000 * 1e-5  # float32 against float64


@pytest.mark.parametrize("package", ["onnx", "onnxruntime", "onnxscript"])
def test_without_the_extra_it_is_named(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    line = refused(PoseNet(ARCHS["residual"]), tmp_path / "network.onnx")
    assert f"expected the package {package}, got none" in line
    assert "pip install 'vipnas[export]'" in line


def test_relative_difference_by_hand() -> None:
    wanted = torch.tensor([1.0, -4.0])
    assert relative_difference(torch.tensor([1.5, -4.0]), wanted) == 0.125
    assert relative_difference(wanted, wanted) == 0
    assert relative_difference(torch.zeros(2), torch.zeros(2)) == 0
    assert relative_difference(torch.ones(2), torch.zeros(2)) > 1e30
    assert relative_difference(torch.zeros(1), torch.zeros(2)) == math.inf
    assert math.isnan(relative_difference(torch.tensor([1.0, math.nan]), wanted))


@pytest.mark.slow
def test_the_released_network_in_onnx_runtime_computes_what_the_published_code_computes(
    tmp_path: Path,
) -> None:
    arch = read_arch(find_shipped("search_spaces", "published/s_vipnas_res50"))
    network = from_published({"state_dict": reference_state()}, arch, "fixture")
    result = export_onnx(network, tmp_path / "network.onnx")
    wanted = read_reference()["heatmaps"]
    heatmaps = run(result.path, reference_images())
    assert (heatmaps - wanted).abs().max() <= 1e-3 * wanted.abs().max()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["s_vipnas_res50", "s_vipnas_mbv3", "lat_vipnas", "tiny"])
def test_random_archs_of_every_space_are_exported(name: str, seed: int, tmp_path: Path) -> None:
    arch = read_space(find_shipped("search_spaces", name)).sample(random.Random(seed))
    network = trained(arch)
    result = export_onnx(network, tmp_path / "network.onnx")
    images = images_for(network, 2)
    with torch.no_grad():
        wanted = network.eval()(images)
    assert relative_difference(run(result.path, images), wanted) <= result.tolerance


def test_a_file_that_cannot_be_run_is_named(tmp_path: Path) -> None:
    path = tmp_path / "no_output.onnx"
    write_node_model(path, "Identity", (1, 3, 64, 48), (1, 3, 64, 48))
    model = onnx.load(path)
    del model.graph.output[:]
    note = model.metadata_props.add()
    smallest = read_space(find_shipped("search_spaces", "tiny")).min_arch()
    note.key, note.value = ARCH_NOTE, smallest.to_json()
    path.write_bytes(model.SerializeToString())
    network = ExportedNetwork(path, threads=1)
    with pytest.raises(UserError) as caught:
        network(torch.zeros(1, 3, 64, 48))
    assert caught.value.place == str(path)
    assert caught.value.expected == "a network that onnxruntime can run"
