"""Every format, in every precision, with and without what may stand around the network.

Each of them once; slow tests have more pairs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch
from errors_fixture import refused
from experiment_fixture import EXPERIMENT, draw_people, write_experiment
from model_fixture import header_of_arch, save_network
from networks_fixture import of_one_stage
from torch import Tensor

from vipnas.arch.image import Arch
from vipnas.cli.main import main
from vipnas.data.codecs.heatmap import HeatmapCodec, make_codec
from vipnas.data.crops.crops import normalise
from vipnas.deploy import export
from vipnas.deploy.deployed import DeployedNet
from vipnas.deploy.export import Form, export_network, relative_difference
from vipnas.deploy.loading import load
from vipnas.models.posenet import PoseNet
from vipnas.runtimes.exported import (
    HEADER_NOTE,
    INPUT_NOTE,
    KEYPOINTS,
    OUTPUT_NOTE,
    PIXELS,
    ExportedNetwork,
    open_exported,
)
from vipnas.runtimes.onnx_model import quantise, to_onnx_quickly
from vipnas.runtimes.onnxruntime import inference_session
from vipnas.runtimes.runtime import RunSettings
from vipnas.shipped import find_shipped
from vipnas.space.yaml import read_space

TINY = read_space(find_shipped("search_spaces", "tiny"))
ARCH = of_one_stage(TINY.with_facts(input_hw=(32, 32), num_keypoints=3).max_arch())


def codec(name: str) -> HeatmapCodec:
    return make_codec(name, ARCH.input_hw, ARCH.heatmap_hw)


FORMS = [
    Form("onnx", "fp32", with_preprocessing=True, decode=codec("dark")),
    Form("openvino", "int8"),
    Form("torch", "fp16", decode=codec("quarter")),
]
MORE_FORMS = [
    Form("onnx", "fp16", with_preprocessing=True, decode=codec("quarter")),
    Form("onnx", "int8"),
    Form("openvino", "fp32", decode=codec("dark")),
    Form("torch", "fp32", with_preprocessing=True),
    Form("onnx", "fp32", with_preprocessing=True),
    Form("openvino", "fp16"),
    Form("openvino", "int8", with_preprocessing=True),
    Form("onnx", "fp32", decode=codec("udp")),
]
# An export takes seconds, on a busy machine many.
pytestmark = [pytest.mark.timeout(120), pytest.mark.usefixtures("onnx_operators")]

# How far what is rounded may lie, of the largest value; and no nearer than rounding would leave it.
WITHIN = {"fp32": (0.0, 1e-5), "fp16": (1e-7, 1e-2), "int8": (1e-4, 0.15)}


def name_of(form: Form) -> str:
    return "-".join(
        (
            form.format,
            form.precision,
            *("pre",) * form.with_preprocessing,
            *(() if form.decode is None else (type(form.decode).__name__,)),
        )
    )


def as_if_trained(arch: Arch) -> PoseNet:
    """With outputs that do not vanish, as those of an untrained network do."""
    torch.manual_seed(0)
    network = PoseNet(arch).eval()
    for parameter in network.parameters():
        if parameter.dim() == 4:
            torch.nn.init.normal_(parameter, 0, parameter[0].numel() ** -0.5)
    return network


@pytest.fixture(scope="module")
def network() -> PoseNet:
    return as_if_trained(ARCH)


@pytest.fixture(scope="module")
def crops() -> Tensor:
    """Smooth, so that neighbours are alike as in photographs."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(24, 3, 4, 4, generator=generator) * 255
    return (
        torch.nn.functional.interpolate(coarse, size=ARCH.input_hw, mode="bicubic")
        .clamp(0, 255)
        .to(torch.uint8)
    )


@pytest.mark.parametrize(
    "form",
    [*FORMS, *(pytest.param(form, marks=pytest.mark.slow) for form in MORE_FORMS)],
    ids=name_of,
)
@torch.no_grad()
def test_a_file_computes_what_pytorch_does(
    form: Form, network: PoseNet, crops: Tensor, tmp_path: Path
) -> None:
    if form.format == "openvino":
        pytest.importorskip("openvino")
    path = tmp_path / f"network{form.file.suffix}"
    result = export_network(network, path, form, crops)
    run, _ = open_exported(path, 1)
    images = crops.permute(0, 2, 3, 1) if form.with_preprocessing else normalise(crops)
    found = torch.from_numpy(run({"images": images.contiguous().numpy()}))

    heatmaps = network(normalise(crops))
    least, most = WITHIN[form.precision]
    if form.decode is not None:
        xy, scores = form.decode.decode(heatmaps)
        assert found.shape == (24, 3, 3)
        assert least <= relative_difference(found[..., 2], scores) <= most
        near = (found[..., :2] - xy).abs().amax(dim=2) < 1e-3
        assert near.float().mean() > 0.9  # else two pixels are as high as each other
    else:
        assert least <= relative_difference(found, heatmaps) <= most
    assert form.precision in str(result) and str(path) in str(result)
    content = b"".join(part.read_bytes() for part in tmp_path.iterdir())
    assert str(Path(export.__file__).parents[2]).encode() not in content


def test_the_graph_around_the_network_is_that_of_the_evaluation(
    network: PoseNet, crops: Tensor
) -> None:
    xy, scores = codec("dark").decode(network(normalise(crops)).detach())
    deployed = DeployedNet(network, True, codec("dark"))
    found = deployed(crops.permute(0, 2, 3, 1)).detach()
    torch.testing.assert_close(found[..., :2], xy, rtol=0, atol=1e-3)
    torch.testing.assert_close(found[..., 2], scores)
    torch.testing.assert_close(DeployedNet(network).images_from(crops), normalise(crops))


@pytest.fixture(scope="module")
def plain(network: PoseNet, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """In ONNX and float32, from normalised images to heatmaps."""
    path = tmp_path_factory.mktemp("plain") / "plain.onnx"
    export_network(network, path, Form())
    return path.read_bytes()


def test_int8_stores_and_computes_integers(plain: bytes, crops: Tensor) -> None:
    small = quantise(plain, "images", normalise(crops).numpy())
    graph = onnx.load_from_string(small).graph
    weights = [item for item in graph.initializer if len(item.dims) == 4]
    integers = [item for item in weights if item.data_type == onnx.TensorProto.INT8]
    kinds = [node.op_type for node in graph.node]
    assert len(integers) == kinds.count("Conv") > 0
    assert len(weights) - len(integers) == kinds.count("ConvTranspose")
    for item in integers:
        values = onnx.numpy_helper.to_array(item)
        assert abs(values).max() <= 64  # 7 bits
    assert {node.op_type for node in graph.node} >= {"QuantizeLinear", "DequantizeLinear"}
    # The range of the input is that of the crops it was calibrated with.
    assert quantise(plain, "images", normalise(crops * 0).numpy()) != small


def test_grouped_deconvolutions_stay_in_float(network: PoseNet) -> None:
    """A scale for each output channel is not what their weights are arranged for, and ONNX Runtime
    computes no deconvolution in integers."""
    deconv = replace(ARCH.head[0], width=8, groups=4)
    images = torch.randn(2, 3, *ARCH.input_hw, generator=torch.Generator().manual_seed(0))
    grouped = as_if_trained(replace(ARCH, head=(deconv,)))
    model = quantise(to_onnx_quickly(grouped, {"images": images}), "images", images.numpy())
    session = inference_session(model, RunSettings())
    with torch.no_grad():
        wanted = grouped(images)
    found = torch.from_numpy(session.run(None, {"images": images.numpy()})[0])
    assert relative_difference(found, wanted) <= WITHIN["int8"][1]


@torch.no_grad()
def test_an_exported_file_stands_in_for_the_network(
    network: PoseNet, plain: bytes, crops: Tensor, tmp_path: Path
) -> None:
    path = tmp_path / "network.onnx"
    path.write_bytes(plain)
    exported = ExportedNetwork(path, threads=1).eval()
    assert exported.arch == ARCH
    images = normalise(crops)
    torch.testing.assert_close(exported(images), network(images), rtol=1e-4, atol=1e-5)

    model = onnx.load_from_string(plain)
    notes = {note.key: note.value for note in model.metadata_props}
    notes[HEADER_NOTE] = header_of_arch(ARCH).to_json()

    def written(notes: dict[str, str]) -> Path:
        del model.metadata_props[:]
        onnx.helper.set_model_props(model, notes)
        path.write_bytes(model.SerializeToString())
        return path

    for changed, message in (
        ({**notes, OUTPUT_NOTE: KEYPOINTS}, "gives: expected heatmaps, got keypoints"),
        ({**notes, INPUT_NOTE: PIXELS}, "takes: expected float32 RGB .*, got uint8 RGB"),
    ):
        opened = load(written(changed))
        with pytest.raises(ValueError, match=rf"network\.onnx: {message}"):
            opened.heatmap_network()
    with pytest.raises(ValueError, match=r"network\.onnx: expected a file that vipnas exported"):
        load(written({}))
    path.write_bytes(b"no model")
    with pytest.raises(
        ValueError, match=r"network\.onnx: expected a file for onnxruntime, got Inv"
    ):
        ExportedNetwork(path, threads=1)
    with refused(str(tmp_path / "none.onnx"), "a file", "no such file"):
        ExportedNetwork(tmp_path / "none.onnx", threads=1)


@pytest.mark.parametrize(
    ("form", "suffix", "with_crops", "message"),
    [
        (
            Form("torch", "int8"),
            ".pt2",
            True,
            "precision: expected one of fp32, fp16 with format torch, got 'int8'",
        ),
        (Form("onnx", "int8"), ".onnx", False, "int8: expected crops to calibrate with"),
        (
            Form("openvino"),
            ".onnx",
            False,
            "expected the suffix .xml of format openvino, got '.onnx'",
        ),
        (Form(), ".xml", False, "expected the suffix .onnx of format onnx, got '.xml'"),
        (
            Form("onnx"),
            ".onnx",
            True,
            r"crops: expected the network's input size \[32, 32\], got \[16, 16\]",
        ),
    ],
    ids=["torch int8", "no crops", "suffix", "suffix of another format", "size of the crops"],
)
def test_what_cannot_be_is_one_line(
    form: Form, suffix: str, with_crops: bool, message: str, network: PoseNet, tmp_path: Path
) -> None:
    size = 16 if "crops: expected the" in message else 32
    crops = torch.zeros(2, 3, size, size, dtype=torch.uint8) if with_crops else None
    with pytest.raises(ValueError, match=message) as raised:
        export_network(network, tmp_path / f"network{suffix}", form, crops)
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("precision", [pytest.param("fp32", marks=pytest.mark.slow), "int8"])
def test_the_loss_of_precision_is_two_commands(
    precision: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In float32, test_model.py compares each joint."""
    network = as_if_trained(of_one_stage(TINY.min_arch()))
    model, exported = save_network(tmp_path / "network.safetensors", network), tmp_path / "out.onnx"
    experiment = str(write_experiment(tmp_path, EXPERIMENT))
    data = ["--data-root", str(draw_people(tmp_path))]
    output = ["--precision", precision, "-o", str(exported)]
    assert main(["export", str(model), *output, "--experiment", experiment, *data]) == 0
    assert str(exported) in capsys.readouterr().out
    metrics = []
    for path in (model, exported):
        run = ["--output", str(tmp_path / "run"), *data, "--device", "cpu", "--json"]
        assert main(["evaluate", experiment, str(path), *run]) == 0
        metrics.append(json.loads(capsys.readouterr().out)["coco"])
    wanted, found = metrics
    assert found.keys() == wanted.keys()
    if precision == "fp32":
        assert found == pytest.approx(wanted, abs=1e-3)
