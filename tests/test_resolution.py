"""Input sizes as a choice: read, sampled, trained, scored and measured at the size of each arch."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from errors_fixture import refused
from evaluation_fixture import evaluator_of, noise
from experiment_fixture import EXPERIMENT, draw_people, write_experiment
from model_fixture import save_supernet
from torch import Tensor, nn
from training_fixture import batch_of, codec_of, sampler_of, supernet_of

from vipnas.arch.io import write_arch
from vipnas.cli.main import main
from vipnas.config.training import ProgressiveShrinking
from vipnas.data.codecs.heatmap import CODECS
from vipnas.data.crops.resizing import resize_crops, resize_points
from vipnas.evaluation.evaluator import calibrate_bn
from vipnas.evaluation.scoring import InheritedScore
from vipnas.models.counting import count_cost
from vipnas.models.file import write_model
from vipnas.models.posenet import PoseNet, extract
from vipnas.pipeline.clip_level import ClipLevel
from vipnas.pipeline.experiment import Experiment
from vipnas.pipeline.image_level import ImageLevel
from vipnas.pipeline.model_header import header_of
from vipnas.pipeline.models import open_supernet
from vipnas.pipeline.replay import _batch_of as batch_of_failure
from vipnas.pipeline.supernet import check_sampling
from vipnas.pipeline.work import needed
from vipnas.shipped import find_shipped
from vipnas.space.image import SearchSpace
from vipnas.space.yaml import parse_space
from vipnas.training.step import ImageTask, network_backward, supernet_backward

pytestmark = pytest.mark.usefixtures("brief_plan")

SIZES = ((32, 24), (64, 48))


@pytest.fixture(scope="module")
def sized(tiny_space: SearchSpace) -> SearchSpace:
    """The space `tiny` with a second input size."""
    return tiny_space.with_facts(input_hw=SIZES)


def document_with(input_hw: Any) -> dict[str, Any]:
    document = yaml.safe_load(find_shipped("search_spaces", "tiny").read_text())
    return {**document, "input_hw": input_hw}


@pytest.mark.parametrize(
    ("input_hw", "expected", "found"),
    [
        ([[64, 48], [60, 45]], "multiples of 8", "[60, 45]"),
        ([[64, 48], [32, 32]], "aspect ratio of [64, 48]", "[32, 32]"),
        ([[64, 48], [64, 48]], "each size once", "[[64, 48], [64, 48]]"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_when_the_space_is_read(
    input_hw: Any, expected: str, found: str
) -> None:
    with refused("tiny.yaml: input_hw", expected, found):
        parse_space(document_with(input_hw), "tiny", "tiny.yaml")


def test_no_size_is_refused(tiny_space: SearchSpace) -> None:
    with refused("tiny: input_hw", "one size or more", "none"):
        tiny_space.with_facts(input_hw=())


def test_the_order_of_sizes_in_the_file_does_not_matter(sized: SearchSpace) -> None:
    for order in ([[64, 48], [32, 24]], [[32, 24], [64, 48]]):
        read = parse_space(document_with(order), "tiny", "tiny.yaml")
        assert read == sized == parse_space(sized.to_plain(), "tiny", "tiny.yaml")
    assert (sized.min_arch().input_hw, sized.max_arch().input_hw) == SIZES


def test_a_list_of_one_size_is_that_size(tiny_space: SearchSpace) -> None:
    one = parse_space(document_with([[64, 48]]), "tiny", "tiny.yaml")
    assert one == tiny_space and one.to_plain()["input_hw"] == [64, 48]
    assert one.num_options == tiny_space.num_options


def test_the_size_is_a_gene_and_others_stay(sized: SearchSpace, tiny_space: SearchSpace) -> None:
    assert sized.num_options == (2, *tiny_space.num_options)
    arch = tiny_space.sample(random.Random(0))
    assert sized.encode(arch) == (1, *tiny_space.encode(arch))
    small = replace(arch, input_hw=(32, 24))
    assert sized.encode(small) == (0, *tiny_space.encode(arch))
    with refused("input_hw", "one of [(32, 24), (64, 48)]", "(96, 72)"):
        sized.encode(replace(arch, input_hw=(96, 72)))


def test_the_size_opens_with_its_group_in_progressive_shrinking(sized: SearchSpace) -> None:
    shrinking = ProgressiveShrinking(order=(("width",), ("input_hw",)), epochs_each=1)
    sampler = replace(sampler_of(sized, num_random=4), progressive_shrinking=shrinking)
    seen = [
        {arch.input_hw for step in steps for arch in sampler.archs(step)}
        for steps in (range(10), range(10, 20))
    ]
    assert seen == [{(64, 48)}, set(SIZES)]


@pytest.mark.parametrize("strategy", ["uniform", "uniform_macs", "cost_balanced", "best_up"])
def test_every_strategy_samples_every_size(sized: SearchSpace, strategy: str) -> None:
    sampler = sampler_of(sized, strategy=strategy)
    assert {arch.input_hw for step in range(12) for arch in sampler.archs(step)} == set(SIZES)


def test_macs_of_convolutions_follow_the_area_by_hand(sized: SearchSpace) -> None:
    arch = replace(sized.min_arch(), input_hw=(64, 48))  # without attention
    half, whole = (count_cost(replace(arch, input_hw=size)) for size in SIZES)
    assert (4 * half.macs, half.params) == (whole.macs, whole.params)


def test_points_move_with_the_pixels() -> None:
    """A spot is where the rule says, and comes back; the centre of a pixel is an integer."""
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(48.0), indexing="ij")
    spot = torch.exp(-((x - 20.3) ** 2 + (y - 41.7) ** 2) / 32)
    images = (255 * spot).round().to(torch.uint8).expand(1, 3, 64, 48)
    small = resize_crops(images, (32, 24))[0, 0].double()
    rows, columns = torch.arange(32.0), torch.arange(24.0)
    found = torch.stack(((small.sum(0) * columns).sum(), (small.sum(1) * rows).sum()))
    moved = resize_points(torch.tensor([20.3, 41.7, 2.0]), (64, 48), (32, 24))
    torch.testing.assert_close((found / small.sum()).float(), moved[:2], atol=0.02, rtol=0)
    assert moved.tolist() == pytest.approx([9.9, 20.6, 2.0])
    back = resize_points(moved, (32, 24), (64, 48))
    assert back.tolist() == pytest.approx([20.3, 41.7, 2.0], abs=1e-5)
    assert resize_crops(images, (64, 48)) is images


@pytest.mark.parametrize("name", CODECS)
def test_targets_have_the_sigma_in_pixels_of_each_size(sized: SearchSpace, name: str) -> None:
    arch = replace(sized.min_arch(), input_hw=(32, 24))
    codec = CODECS[name]((64, 48), (16, 12), 1.5)
    small = codec.at(arch)
    assert (type(small), small.input_hw, small.heatmap_hw) == (type(codec), (32, 24), (8, 6))
    joint = torch.tensor([[[12.0, 16.0, 2.0]]])
    targets, _ = small.encode(resize_points(joint, (64, 48), (32, 24)))
    spread = targets[0, 0].sum(0)
    columns = torch.arange(6.0)
    mean = (spread * columns).sum() / spread.sum()
    assert (spread * (columns - mean) ** 2).sum().sqrt().item() / spread.sum().sqrt().item() > 1.2
    xy, _ = small.decode(targets)
    back = resize_points(xy, (32, 24), (64, 48))
    assert (back - joint[..., :2]).abs().max() < 2.1  # a quarter of a heatmap pixel


def gradients(network: nn.Module) -> dict[str, Tensor]:
    return {n: p.grad for n, p in network.named_parameters() if p.grad is not None}


def test_a_subnet_trains_on_crops_of_its_size_as_by_itself(sized: SearchSpace) -> None:
    supernet = supernet_of(sized).train()
    arch = replace(supernet.arch, input_hw=(32, 24))
    alone = extract(supernet, arch)
    images, keypoints = batch_of(sized, 0)
    shown = network_backward(ImageTask(supernet, codec_of(sized)), arch)(0, (images, keypoints))
    resized = resize_crops(images, (32, 24)), resize_points(keypoints, (64, 48), (32, 24))
    own = network_backward(ImageTask(alone, codec_of(sized).at(arch)))(0, resized)
    assert torch.equal(shown["labels"], own["labels"])
    found, expected = gradients(supernet), gradients(alone)
    assert expected and all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_step_prepares_each_size_once(sized: SearchSpace) -> None:
    prepare = ImageTask(supernet_of(sized), codec_of(sized)).prepare(0, batch_of(sized, 0))
    largest, smallest = sized.max_arch(), sized.min_arch()
    assert prepare(largest) is prepare(None)
    assert prepare(smallest) is prepare(replace(largest, input_hw=(32, 24)))
    assert prepare(smallest).targets[0].shape[2:] == smallest.heatmap_hw
    assert prepare(smallest).frames[0].images_B3HW.shape[2:] == (32, 24)


def test_the_sandwich_trains_largest_and_smallest_at_their_sizes(sized: SearchSpace) -> None:
    task = ImageTask(supernet_of(sized), codec_of(sized))
    shown = supernet_backward(task, sampler_of(sized))(0, batch_of(sized, 0))
    assert set(shown) == {"largest", "random", "smallest"}
    assert all(torch.isfinite(loss) for loss in shown.values())


class Oracle(nn.Module):
    """Gives the heatmaps of the labels, batch by batch, at the size of the images."""

    def __init__(self, heatmaps_BKHW: Tensor, input_hw: tuple[int, int]) -> None:
        super().__init__()
        self.rest, self.input_hw = heatmaps_BKHW, input_hw
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, images_B3HW: Tensor) -> Tensor:
        assert tuple(images_B3HW.shape[2:]) == self.input_hw
        found, self.rest = self.rest.split((len(images_B3HW), len(self.rest) - len(images_B3HW)))
        return found


def test_predictions_at_a_smaller_size_are_in_pixels_of_the_image(sized: SearchSpace) -> None:
    evaluator = evaluator_of(sized, flip_test=False)
    arch = sized.min_arch()
    small = evaluator.at(arch)
    assert small.crops is evaluator.crops  # made once
    keypoints = resize_points(evaluator.crops.keypoints_BK3, (64, 48), (32, 24))
    xy, _ = small.predict(Oracle(small.codec.encode(keypoints)[0], (32, 24)))
    expected = evaluator.crops.keypoints_BK3[..., :2].numpy()
    inside = expected[..., 0] < 32  # a peak on the border is not moved towards a neighbour
    assert np.abs(xy - expected)[inside].max() <= 0.25 * 8 + 1e-4  # a quarter of a heatmap pixel


def test_a_score_is_that_of_the_network_calibrated_at_its_size(sized: SearchSpace) -> None:
    evaluator, images = evaluator_of(sized), noise(sized, 8, 2)
    score = InheritedScore(supernet_of(sized).eval(), sized, evaluator, images)
    scores = []
    for arch in (sized.min_arch(), replace(sized.min_arch(), input_hw=(64, 48))):
        by_hand = extract(score.supernet, arch)
        calibrate_bn(by_hand, resize_crops(images, arch.input_hw), evaluator.batch_size)
        xy, peaks = evaluator.at(arch).predict(by_hand)
        assert score(arch) == pytest.approx(evaluator.score(xy, peaks), rel=1e-4)
        scores.append(score(arch))
    assert scores[0] != scores[1]


def level_of(directory: Path, **changes: Any) -> ImageLevel:
    document = {**EXPERIMENT, "input_hw": [list(size) for size in SIZES], **changes}
    experiment = Experiment.open(
        write_experiment(directory, document), directory / "run", directory, torch.device("cpu")
    )
    return ImageLevel(experiment)


def test_a_network_by_itself_has_crops_of_its_own_size(tmp_path: Path) -> None:
    level = level_of(tmp_path)
    assert level.space.inputs_hw == SIZES
    arch = level.space.min_arch()
    alone = level.at(arch)
    assert alone.space.inputs_hw == (arch.input_hw,)
    assert alone.experiment.codec == level.experiment.codec.at(arch)
    assert alone.at(arch).experiment is alone.experiment


def test_heatmaps_of_two_sizes_are_not_distilled(tmp_path: Path) -> None:
    distilled = {**EXPERIMENT["supernet"], "distillation": {"loss": "kl"}}
    level = level_of(tmp_path, supernet=distilled)
    with refused("supernet.distillation.loss", "labels, as input_hw is a choice", "kl"):
        check_sampling(level)
    check_sampling(level.at(level.space.min_arch()))


def test_follow_up_frames_have_all_sizes(tmp_path: Path) -> None:
    """And start from the supernet of images, which has them too; crops have the largest."""
    sizes = (32, 24), (96, 72)
    opened = Experiment.open("quickstart_video", tmp_path, tmp_path, torch.device("cpu"))
    config = replace(opened.config, input_hw=sizes, space="quick_follow")
    video = replace(needed(opened, config.video, "video"), space=None)
    experiment = replace(opened, config=replace(config, video=video))
    space = experiment.space
    file = experiment.folder.supernet / "supernet.safetensors"
    header = header_of(experiment, PoseNet(space.max_arch()), space)
    write_model(file, supernet_of(space), header)
    level = ClipLevel(experiment, PoseNet(space.min_arch()))
    assert level.codec.input_hw == (96, 72) and level.space.image_space.inputs_hw == sizes
    smallest = level.space.min_arch()
    assert level.at(smallest).codec.input_hw == smallest.key_frame.input_hw == (32, 24)
    for given, expected in (((32, 24), ((32, 24),)), (sizes[::-1], sizes)):
        own = replace(experiment.config, video=replace(video, input_hw=given))
        another = ClipLevel(replace(experiment, config=own), PoseNet(space.max_arch()))
        assert another.space.image_space.inputs_hw == expected
        assert another.codec.input_hw == (96, 72)
    for wrong, place, fields in (
        ((90, 72), "quick_follow: input_hw", ("multiples of 8", "[90, 72]")),
        ((32, 32), "follow_ups[0].input_hw", ("the aspect ratio of (32, 24)", "(32, 32)")),
    ):
        own = replace(experiment.config, video=replace(video, input_hw=wrong))
        with refused(place, *fields):
            ClipLevel(replace(experiment, config=own), PoseNet(space.min_arch())).space  # noqa: B018
    posenet = level.supernet(tmp_path).posenet
    pairs = zip(posenet.parameters(), supernet_of(space).parameters(), strict=True)
    same = torch.cat([(found == given).flatten() for found, given in pairs]).float().mean()
    assert 0.2 < same < 1.0  # but for those of the key frame's network
    # Weights have no size: the same where the key frame's size is not among the others'.
    own = replace(experiment.config, video=replace(video, input_hw=(96, 72)))
    alike = ClipLevel(replace(experiment, config=own), level.key_frame).supernet(tmp_path).posenet
    assert all(map(torch.equal, alike.parameters(), posenet.parameters()))
    # The batch of a failed step has crops of the largest size of its clips.
    length = 1 + len(smallest.follow_ups)
    for clips, (height, width) in ((level, (96, 72)), (level.at(smallest), (32, 24))):
        batch = [
            torch.zeros(2, length, 3, height, width, dtype=torch.uint8),
            torch.zeros(2, length, experiment.skeleton.num_joints, 3),
            torch.zeros(2, length - 1, 2, 3),
        ]
        assert batch_of_failure({"batch": batch}, clips, tmp_path) is batch
    with refused(f"{file}: arch.input_hw", "(64, 48)", "(96, 72)"):
        other = replace(experiment, config=replace(experiment.config, input_hw=(64, 48)))
        open_supernet(other, file)


@pytest.mark.slow
def test_the_whole_chain_follows_the_size_of_the_arch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Search, retraining, evaluation, export and prediction, at the smaller of two sizes."""
    draw_people(tmp_path)
    level = level_of(tmp_path)
    save_supernet(tmp_path / "run" / "supernet" / "supernet.safetensors", level.space)
    places = ["--output", str(tmp_path / "run"), "--data-root", str(tmp_path), "--device", "cpu"]
    experiment = str(tmp_path / "experiment.yaml")
    assert main(["search", experiment, *places]) == 0
    lines = (tmp_path / "run" / "search" / "trials.jsonl").read_text().splitlines()[1:]
    sizes = {tuple(json.loads(line)["arch"]["input_hw"]) for line in lines}
    assert sizes == set(SIZES)
    write_arch(tmp_path / "small.json", level.space.min_arch())
    assert main(["retrain", experiment, *places, "--arch", str(tmp_path / "small.json")]) == 0
    images = tmp_path / "test" / "images"
    model, exported = tmp_path / "run" / "retrain" / "network.safetensors", tmp_path / "pose.onnx"
    metrics = json.loads((model.parent / "metrics.json").read_text())
    assert main(["export", str(model), "-o", str(exported)]) == 0
    capsys.readouterr()
    for file in (model, exported):
        assert main(["evaluate", experiment, str(file), *places, "--json"]) == 0
        found = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert found["coco"]["ap"] == pytest.approx(metrics["ap"], abs=0.01)
        assert main(["predict", str(file), str(images), "-o", str(tmp_path / "out")]) == 0
    assert main(["info", str(model), "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["input"]["hw"] == [32, 24]
