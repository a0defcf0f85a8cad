"""The SimCC head: its architecture, cost, codec, loss, exports and names; what it refuses."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from errors_fixture import refused
from experiment_fixture import EXPERIMENT, draw_people, write_experiment
from model_fixture import header_of_arch
from networks_fixture import randomise_batch_norm
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from training_fixture import batch_of

from vipnas.arch.clip import FollowUp, VideoArch
from vipnas.arch.image import Arch, DeconvArch, SimccArch, StageArch, StemArch
from vipnas.arch.io import arch_from_json, read_arch, write_arch
from vipnas.cli.main import main
from vipnas.config.experiment import read_experiment
from vipnas.data.codecs.choose import codec_of
from vipnas.data.codecs.heatmap import HeatmapCodec
from vipnas.data.codecs.simcc import SCORE_SIGMA_PX, SimccCodec
from vipnas.data.formats.skeletons import COCO_17
from vipnas.deploy.describe import describe
from vipnas.deploy.export import Form, export_network
from vipnas.deploy.loading import load
from vipnas.evaluation.evaluator import flip_tested
from vipnas.files import to_plain
from vipnas.models.counting import count_cost
from vipnas.models.file import write_model
from vipnas.models.header import ModelHeader
from vipnas.models.posenet import PoseNet, extract
from vipnas.models.published import published_state, save_published, without_counterpart
from vipnas.models.transfer import transfer
from vipnas.pipeline.experiment import Experiment
from vipnas.runtimes.runtime import RunSettings
from vipnas.runtimes.table import RUNTIMES
from vipnas.shipped import find_shipped
from vipnas.space.image import SearchSpace
from vipnas.space.yaml import parse_space
from vipnas.training.losses import simcc_loss
from vipnas.training.step import ImageTask, network_backward

STAGE = StageArch(8, 1, 3, 1, False, 1, 2, "relu")
ARCH = Arch("residual", (32, 24), StemArch(4, 3, "relu", False), (STAGE,), (), 17, SimccArch(3))
# 24 x 2 and 32 x 2 bins of the maps of 8 x 6 pixels.
CODEC = SimccCodec((32, 24), (1, 112), 1.5)
ONLY_ONE = "one size with simcc"


def document(**changes: Any) -> dict[str, Any]:
    tiny = yaml.safe_load(find_shipped("search_spaces", "tiny").read_text())
    return {**tiny, "simcc": {"kernel_size": 1}, **changes}


@pytest.fixture(scope="module")
def simcc_space() -> SearchSpace:
    return parse_space(document(), "tiny", "tiny.yaml")


def trained(arch: Arch, seed: int = 0) -> PoseNet:
    torch.manual_seed(seed)
    network = PoseNet(arch).eval()
    randomise_batch_norm(network, seed)
    return network


def header_of(arch: Arch) -> ModelHeader:
    heatmaps = header_of_arch(replace(arch, simcc=None))
    return replace(heatmaps, arch=arch, codec="simcc", sigma_px=1.5)


def points(*xy: tuple[float, float]) -> Tensor:
    return torch.tensor([[(x, y, 2.0) for x, y in xy]])


def test_sizes_and_a_file_of_before_there_was_a_head(tmp_path: Path) -> None:
    assert (ARCH.maps_hw, ARCH.bins_xy, ARCH.heatmap_hw) == ((8, 6), (48, 64), (1, 112))
    heatmaps = replace(ARCH, simcc=None)
    assert (heatmaps.bins_xy, heatmaps.heatmap_hw) == ((0, 0), (8, 6))
    assert arch_from_json(ARCH.to_json(), "test") == ARCH
    path, before = tmp_path / "arch.json", to_plain(heatmaps)
    write_arch(path, ARCH)
    assert read_arch(path) == ARCH
    del before["simcc"]
    path.write_text(json.dumps({"version": 1, "arch": before}))
    assert read_arch(path) == heatmaps
    with refused("simcc.kernel_size", "an odd number", "2"):
        replace(ARCH, simcc=SimccArch(2))
    with refused("simcc.split_ratio", "from 1 to 8", "0"):
        replace(ARCH, simcc=SimccArch(1, 0))
    with refused("", "up to 1,000,000,000 weights"):
        replace(ARCH, input_hw=(4096, 4096))


def test_info_says_the_head() -> None:
    lines = [*describe(header_of(ARCH), "a test")]
    assert "head: simcc, maps of 8 x 6 (height x width) to 48 + 64 bins (x + y)" in lines
    assert "codec: simcc, sigma 1.5 px of the input" in lines


def test_a_clip_refuses_it() -> None:
    heatmaps = replace(ARCH, simcc=None)
    with refused("key_frame.simcc", "null in a clip", "a SimCC head"):
        VideoArch(ARCH, (FollowUp(ARCH, None),))
    with refused("follow_ups[0].heatmap_hw", "(8, 6) as in the key frame"):
        VideoArch(heatmaps, (FollowUp(ARCH, None),))


def test_its_cost_by_hand_and_by_torch() -> None:
    last = replace(ARCH, simcc=None)
    found, heatmaps = count_cost(ARCH), count_cost(last)
    # 8 channels to 17 maps of 48 pixels by 3 x 3, not 1 x 1; then 48 pixels to 112 bins, 17 times.
    assert found.macs - heatmaps.macs == 8 * 17 * 8 * 48 + 17 * 48 * 112
    assert found.params - heatmaps.params == 8 * 17 * 8 + 48 * 112 + 112
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        PoseNet(ARCH).eval()(torch.zeros(1, 3, 32, 24))
    assert counter.get_total_flops() == 2 * found.macs


def test_a_space_has_it_as_a_fixed_option(simcc_space: SearchSpace) -> None:
    assert parse_space(simcc_space.to_plain(), "tiny", "test") == simcc_space
    supernet, rng = trained(simcc_space.max_arch()), random.Random(0)
    images = torch.randn(2, 3, *simcc_space.input_hw)
    for arch in (simcc_space.min_arch(), simcc_space.sample(rng), simcc_space.sample(rng)):
        assert arch.simcc == SimccArch(1) and arch in simcc_space
        with torch.no_grad():
            logits = supernet(images, arch)
            assert torch.equal(logits, extract(supernet, arch)(images))
        assert logits.shape == (2, 17, 1, 2 * (48 + 64))
    with refused("tiny: simcc", "SimccArch(kernel_size=1, split_ratio=2)", "None"):
        heatmaps = replace(simcc_space.min_arch(), simcc=None)
        simcc_space.check_arch(heatmaps, "tiny")


@pytest.mark.parametrize(
    ("changes", "place", "expected"),
    [
        ({"input_hw": [[64, 48], [32, 24]]}, "input_hw", ONLY_ONE),
        ({"simcc": {"kernel_size": [1, 3]}}, "simcc: kernel_size", "a valid integer"),
        ({"simcc": {"kernel_size": 1, "width": [8, 16]}}, "simcc", "one of the keys"),
        ({"simcc": {"kernel_size": 4}}, "simcc.kernel_size", "an odd number"),
    ],
)
def test_a_space_refuses_what_linear_layers_cannot_share(
    changes: dict[str, Any], place: str, expected: str
) -> None:
    with refused(f"tiny.yaml: {place}", expected):
        parse_space(document(**changes), "tiny", "tiny.yaml")


def test_a_round_trip_errs_by_half_a_bin_and_scores_1() -> None:
    xy = [(5.1, 8.2), (12.0, 30.9), (0.0, 0.0), (23.6, 20.25)]
    targets, weights = CODEC.encode(points(*xy))
    assert targets.shape == (1, 4, 1, 112) and weights.tolist() == [[1.0] * 4]
    sums = torch.stack([axis.sum(-1) for axis in targets.split((48, 64), dim=-1)])
    torch.testing.assert_close(sums, torch.ones_like(sums))
    found, scores = CODEC.decode(targets.clamp(min=1e-30).log() + 3)  # a softmax has no level
    assert (found - torch.tensor([xy])).abs().max() <= 0.25 + 1e-6
    # Cut off by the border, a Gaussian of the targets is narrower than one.
    assert scores.min() > 0.98 and scores.max() <= 1
    outside = points((-0.3, 4.0), (23.8, 4.0), (4.0, 31.8))
    outside[0, 0, 2] = 2
    assert CODEC.encode(outside)[1].tolist() == [[0.0, 0.0, 0.0]]
    hidden = points((5.0, 5.0))
    hidden[..., 2] = 0.5
    assert CODEC.encode(hidden)[1].tolist() == [[0.5]]


def test_a_score_is_what_a_heatmap_would_have() -> None:
    """Of a joint that is at one of two places, the best heatmap is the mean of both targets, and
    the best distributions are."""
    size, sigma = (96, 96), 3.0
    heatmap = HeatmapCodec(size, size, SCORE_SIGMA_PX)
    simcc = SimccCodec(size, (1, 384), sigma)
    for share, first, other in ((0.7, (40, 50), (60, 50)), (0.6, (40, 50), (40, 44))):
        places = points(first, other)
        best_heatmap, best_bins = (
            share * targets[:, :1] + (1 - share) * targets[:, 1:]
            for targets in (codec.encode(places)[0] for codec in (heatmap, simcc))
        )
        found, scores = simcc.decode(best_bins.clamp(min=1e-30).log())
        x, y = (round(value) for value in found[0, 0].tolist())
        torch.testing.assert_close(scores[0, 0], best_heatmap[0, 0, y, x], atol=0.01, rtol=0)
    # Blurred along both axes, independently: the product of two expectations of a Gaussian.
    blur = 6.0
    bins = [torch.arange(192.0) for _ in range(2)]
    wide = 2 * math.hypot(blur, sigma)
    logits = torch.cat([(axis - 96).square() / (-2 * wide**2) for axis in bins])
    _, scores = simcc.decode(logits.view(1, 1, 1, -1))
    expected = (SCORE_SIGMA_PX / math.hypot(SCORE_SIGMA_PX, blur)) ** 2
    torch.testing.assert_close(scores.item(), expected, atol=1e-3, rtol=0)


def test_the_flip_test_is_exact_and_averages_probabilities() -> None:
    generator = torch.Generator().manual_seed(0)
    joints = torch.rand(3, 17, 3, generator=generator) * torch.tensor([12.0, 20.0, 0]) + 6
    mirrored = joints.clone()
    mirrored[..., 0] = 24 - joints[..., 0]
    mirrored = mirrored[:, list(COCO_17.flip_order)]
    straight, back = (CODEC.encode(one)[0].clamp(min=1e-30).log() for one in (joints, mirrored))
    outputs = iter((straight, back))
    images = torch.zeros(3, 3, 32, 24)
    averaged = flip_tested(lambda _: next(outputs), images, CODEC, COCO_17.flip_order, True)
    for found, expected in zip(CODEC.decode(averaged), CODEC.decode(straight), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    # One place by the image, another one by its mirror image: half of the score.
    apart = CODEC.average(
        CODEC.encode(points((4, 4)))[0].clamp(min=1e-30).log(),
        CODEC.encode(points((4, 28)))[0].clamp(min=1e-30).log(),
        [0],
        True,
    )
    assert CODEC.decode(apart)[1].item() < 0.6


def test_the_loss_by_hand() -> None:
    targets, _ = CODEC.encode(points((5, 5), (9, 9)))
    logits = torch.zeros_like(targets)
    # From a target to equal probabilities: the logarithm of the number of bins less its entropy.
    entropies = -(targets * targets.clamp(min=1e-30).log()).sum(-1)[0, :, 0]
    expected = (math.log(48) + math.log(64) - entropies) * torch.tensor([1.0, 0.25])
    found = simcc_loss(CODEC.bins_xy, logits, targets, torch.tensor([[1.0, 0.5]]))
    torch.testing.assert_close(found, expected.mean())
    perfect = targets.clamp(min=1e-30).log()
    assert simcc_loss(CODEC.bins_xy, perfect, targets, torch.ones(1, 2)).abs() < 1e-6


def test_a_step_trains_it(simcc_space: SearchSpace) -> None:
    arch = simcc_space.min_arch()
    network = trained(arch).train()
    codec = codec_of(arch, "simcc", 2.0)
    batch, optimizer = batch_of(simcc_space, 0), torch.optim.Adam(network.parameters(), 3e-3)
    losses = []
    for step in range(12):
        optimizer.zero_grad()
        losses += [network_backward(ImageTask(network, codec))(step, batch)["labels"].item()]
        optimizer.step()
    images, labels = batch
    targets, weights = codec.encode(labels)
    assert losses[0] == pytest.approx(_cross_entropies(targets, weights), rel=0.1)
    assert losses[-1] < 0.6 * losses[0]


def _cross_entropies(targets: Tensor, weights: Tensor) -> float:
    """The loss of equal probabilities."""
    return simcc_loss((96, 128), torch.zeros_like(targets), targets, weights).item()


def test_pictures_are_of_the_crop_size() -> None:
    targets, _ = CODEC.encode(points((5, 20)))
    picture = CODEC.pictures(targets.clamp(min=1e-30).log())[0, 0]
    assert picture.shape == (64, 48) and picture.max() == pytest.approx(1, abs=1e-5)
    assert divmod(int(picture.argmax()), 48) == (40, 10)
    drawn, _ = CODEC.drawn.encode(points((5, 20)))
    small = F.avg_pool2d(picture[None, None], 2)[0, 0]
    assert drawn.shape[2:] == small.shape and (drawn[0, 0] - small).abs().max() < 0.2


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_runtimes_compute_what_pytorch_does(runtime: str) -> None:
    pytest.importorskip(runtime)
    network = trained(ARCH)
    images = torch.randn(2, 3, 32, 24, generator=torch.Generator().manual_seed(0))
    session = RUNTIMES[runtime].load(extract(network, ARCH), {"images": images}, RunSettings())
    with torch.no_grad():
        wanted = network(images)
    found = torch.from_numpy(session({"images": images.numpy()}))
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)
    assert torch.equal(CODEC.decode(found)[0], CODEC.decode(wanted)[0])


@pytest.mark.slow
@pytest.mark.usefixtures("onnx_operators")
@pytest.mark.parametrize(("file_format", "suffix"), [("onnx", ".onnx"), ("openvino", ".xml")])
@pytest.mark.parametrize("decode", [False, True])
def test_exports_compute_what_pytorch_does(
    tmp_path: Path, file_format: str, suffix: str, decode: bool
) -> None:
    pytest.importorskip("openvino" if file_format == "openvino" else "onnxruntime")
    network, header = trained(ARCH), header_of(ARCH)
    form = Form(file_format, decode=CODEC if decode else None)
    path = tmp_path / f"network{suffix}"
    assert export_network(network, path, form, header=header).difference < 1e-4
    write_model(tmp_path / "network.safetensors", network, header)
    models = [load(file, flip_test=False) for file in (tmp_path / "network.safetensors", path)]
    image = torch.randint(
        0, 256, (40, 30, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    first, second = (model.predict(image.numpy()) for model in models)
    torch.testing.assert_close(first.scores, second.scores, atol=1e-5, rtol=0)
    # Equal to the pixel, unless two bins are equally likely.
    assert abs(first.keypoints - second.keypoints).max() < 1e-3


def test_names_are_those_of_mmpose(tmp_path: Path) -> None:
    """Of its `SimCCHead`, alone and with the deconvolutions of ViPNAS."""
    simcc = replace(ARCH, simcc=SimccArch(1))
    names = [name for name in published_state(PoseNet(simcc)) if name.startswith("head.")]
    linear = [f"head.mlp_head_{axis}.{kind}" for axis in "xy" for kind in ("weight", "bias")]
    assert names == ["head.final_layer.weight", "head.final_layer.bias", *linear]
    deconvs = replace(simcc, head=(DeconvArch(8, 4, 8), DeconvArch(8, 4, 8)))
    state = published_state(PoseNet(deconvs))
    layers = [name for name in state if name.startswith("head.deconv_head.deconv_layers.")]
    assert {name.split(".")[3] for name in layers} == {"0", "1", "3", "4"}
    assert state["head.deconv_head.final_layer.weight"].shape == (17, 8, 1, 1)
    assert state["head.mlp_head_y.weight"].shape == (64, 32 * 24)
    network = trained(deconvs)
    save_published(tmp_path / "network.pth", network, header_of(deconvs))
    torch.save({"state_dict": published_state(network)}, tmp_path / "foreign.pth")
    for name in ("network.pth", "foreign.pth"):
        model = load(tmp_path / name, arch=deconvs)
        assert all(
            map(torch.equal, model.pose_net().state_dict().values(), network.state_dict().values())
        )
    assert (model.header.codec, model.header.sigma_px) == ("simcc", 3.0)
    assert [*without_counterpart(ARCH)][-1] == "simcc.kernel_size: expected 1, got 3"


def test_weights_of_another_input_size_keep_the_convolution_only() -> None:
    joints = COCO_17.joints
    source, target = trained(ARCH), trained(replace(ARCH, input_hw=(64, 48)), seed=1)
    report = transfer(source, target, joints, joints)
    linear = [f"layers.simcc.{axis}.{kind}" for axis in "xy" for kind in ("weight", "bias")]
    assert report.missing == linear and not report.resized
    conv = "layers.simcc.conv.weight"
    assert torch.equal(target.state_dict()[conv], source.state_dict()[conv])
    assert transfer(source, trained(ARCH, seed=1), joints, joints).missing == []


@pytest.mark.parametrize(
    ("changes", "place", "expected"),
    [
        ({"codec": "quarter"}, "codec", "simcc"),
        ({"codec": "dark"}, "codec", "simcc"),
        ({"space": "tiny"}, "codec", "one of quarter, dark, udp"),
        ({"sigma_px": 8.0}, "sigma_px", "below 8"),
        ({"input_hw": [[64, 48], [32, 24]]}, ": input_hw", ONLY_ONE),
        (
            {"supernet": {**EXPERIMENT["supernet"], "distillation": {"loss": "kl"}}},
            "experiment.yaml: supernet.distillation.loss",
            "labels with codec simcc",
        ),
        ({"video": "of a shipped experiment"}, "experiment.yaml: video", "none with codec simcc"),
    ],
)
def test_an_experiment_refuses_what_needs_heatmaps(
    tmp_path: Path, changes: dict[str, Any], place: str, expected: str
) -> None:
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(document()))
    content = {**EXPERIMENT, "space": "space.yaml", "codec": "simcc", **changes}
    if "video" in changes:
        content["video"] = to_plain(
            read_experiment(find_shipped("experiments", "quickstart_video", ".yaml")).video
        )
    path = write_experiment(tmp_path, content)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (a UserError, whose place is compared)
        Experiment.open(path, tmp_path, tmp_path, torch.device("cpu")).codec  # noqa: B018
    error: Any = caught.value
    assert error.place.endswith(place) and expected in error.expected


@pytest.mark.slow
def test_a_network_is_trained_evaluated_exported_and_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = draw_people(tmp_path)
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(document()))
    content = {**EXPERIMENT, "space": "space.yaml", "codec": "simcc"}
    path, run = write_experiment(tmp_path, content), tmp_path / "run"
    common: list[str | Path] = ["--data-root", root, "--device", "cpu"]

    def vipnas(*arguments: str | Path) -> str:
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert code == 0, captured.err
        return captured.out

    vipnas("run", path, "--output", run, *common)
    network = run / "retrain" / "network.safetensors"
    assert "codec: simcc, sigma 2 px of the input" in vipnas("info", network)
    vipnas("evaluate", path, network, *common)
    vipnas("export", network, "-o", tmp_path / "network.onnx", "--with-decode")
    images = root / "test" / "images"
    for model in (network, tmp_path / "network.onnx"):
        vipnas("predict", model, images, "--output", tmp_path / model.suffix)
    vipnas("report", run)
