"""Scores depend on weights, crops and arch alone; batch norm folds; copies score the same."""

from __future__ import annotations

import math
import pickle
import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from evaluation_fixture import evaluator_of, noise
from torch import nn
from training_fixture import supernet_of

from vipnas.arch.image import Arch
from vipnas.errors import UserError
from vipnas.evaluation.evaluator import calibrate_bn
from vipnas.evaluation.scoring import InheritedScore
from vipnas.models.fold import fold_batch_norm
from vipnas.models.posenet import PoseNet, extract
from vipnas.space.image import SearchSpace


def randomise(network: nn.Module) -> None:
    """Batch norm that does something, in every channel another thing."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            nn.init.uniform_(module.weight, 0.5, 2.0)
            nn.init.normal_(module.bias)
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)


@torch.no_grad()
def test_folded_networks_give_the_same_heatmaps(space: SearchSpace) -> None:
    rng = random.Random(0)
    images = torch.randn(2, 3, *space.input_hw)
    supernet = supernet_of(space)
    for arch in (space.max_arch(), space.sample(rng), space.min_arch()):
        network = extract(supernet, arch).eval()
        randomise(network)
        expected = network(images)
        before = sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())
        fold_batch_norm(network)
        left = [
            name for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)
        ]
        assert before > len(left) == len(arch.head) and all("deconv" in name for name in left)
        spread = expected.std()
        torch.testing.assert_close(network(images) / spread, expected / spread, rtol=0, atol=1e-4)


def test_a_score_depends_on_weights_and_arch_alone(tiny_space: SearchSpace) -> None:
    """Not on what was scored before, on momentum, or on the statistics in the supernet."""
    evaluator = evaluator_of(tiny_space)
    rng = random.Random(0)
    archs = [tiny_space.max_arch(), *(tiny_space.sample(rng) for _ in range(2))]
    fresh, used = (
        InheritedScore(
            supernet_of(tiny_space).eval(), tiny_space, evaluator, noise(tiny_space, 8, 2)
        )
        for _ in range(2)
    )
    for module in used.supernet.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.9
            assert module.running_var is not None
            module.running_var.fill_(5.0)
    before = {name: tensor.clone() for name, tensor in used.supernet.state_dict().items()}
    expected = [evaluator.predict(fresh.network(arch)) for arch in archs]
    for arch in (*archs, *reversed(archs)):
        used(arch)
    found = [evaluator.predict(used.network(arch)) for arch in reversed(archs)][::-1]
    for (xy, scores), (other_xy, other_scores) in zip(expected, found, strict=True):
        assert np.array_equal(xy, other_xy) and np.array_equal(scores, other_scores)
    assert not np.array_equal(expected[0][1], expected[1][1])
    assert all(torch.equal(before[n], t) for n, t in used.supernet.state_dict().items())


def test_a_score_is_that_of_the_extracted_calibrated_network(tiny_space: SearchSpace) -> None:
    arch = tiny_space.min_arch()
    evaluator, images = evaluator_of(tiny_space), noise(tiny_space, 8, 2)
    score = InheritedScore(supernet_of(tiny_space).eval(), tiny_space, evaluator, images)
    by_hand = extract(score.supernet, arch)
    calibrate_bn(by_hand, images, evaluator.batch_size)
    expected_xy, expected_scores = evaluator.predict(by_hand)
    xy, scores = evaluator.predict(score.network(arch))
    np.testing.assert_allclose(scores, expected_scores, rtol=1e-4)
    assert (np.abs(xy - expected_xy) < 1e-6).mean() > 0.99  # but for ties of neighbouring pixels
    assert score(arch) == evaluator.score(xy, scores) > 0


def test_an_architecture_outside_of_the_space_has_no_score(tiny_space: SearchSpace) -> None:
    evaluator, images = evaluator_of(tiny_space), noise(tiny_space, 8, 2)
    score = InheritedScore(supernet_of(tiny_space).eval(), tiny_space, evaluator, images)
    with pytest.raises(UserError) as refused:
        score(replace(tiny_space.max_arch(), num_keypoints=13))
    assert (refused.value.expected, refused.value.found) == ("17", "13")


def test_a_copy_in_another_process_scores_bit_for_bit_the_same(tiny_space: SearchSpace) -> None:
    arch, evaluator = tiny_space.min_arch(), evaluator_of(tiny_space)
    score = InheritedScore(
        supernet_of(tiny_space).eval(), tiny_space, evaluator, noise(tiny_space, 8, 2)
    )
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(score, protocol=5, buffer_callback=buffers.append)
    # The crops travel beside the pickle, so that processes can share them; read-only then.
    images = evaluator.crops.images_B3HW
    assert {images.numel(), score.calibration_images_N3HW.numel()} <= {
        buffer.raw().nbytes for buffer in buffers
    }
    copy = pickle.loads(data, buffers=[bytes(buffer.raw()) for buffer in buffers])
    assert copy.evaluator.crops.images_B3HW.is_contiguous(memory_format=torch.channels_last)
    # Noise is compared by its pixels: its AP would be about 0 for anything.
    in_order = images.contiguous(memory_format=torch.channels_last)
    again = pickle.loads(pickle.dumps(copy))
    assert torch.equal(copy.evaluator.crops.images_B3HW, in_order)
    first, second = (one.evaluator.predict(one.network(arch)) for one in (copy, again))
    assert np.array_equal(first[0], second[0]) and np.array_equal(first[1], second[1])


class Raises(PoseNet):
    """A supernet whose slices cannot be made."""

    error: Callable[[], Exception]

    def get_submodule(self, target: str) -> nn.Module:
        raise self.error()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (lambda: torch.OutOfMemoryError("CUDA out of memory. Tried\nto"), MemoryError),
        (
            lambda: RuntimeError(
                "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 5 bytes"
            ),
            MemoryError,
        ),
        (lambda: RuntimeError("shapes do not match"), RuntimeError),
    ],
)
def test_out_of_memory_is_told_from_mistakes(
    tiny_space: SearchSpace, error: Callable[[], Exception], kind: type[Exception]
) -> None:
    arch: Arch = tiny_space.max_arch()
    supernet = Raises(arch)
    supernet.error = error
    score = InheritedScore(supernet, tiny_space, evaluator_of(tiny_space), noise(tiny_space, 8, 2))
    with pytest.raises(kind) as raised:
        score(arch)
    assert type(raised.value) is kind and "\n" not in str(raised.value)


class TrackedPose(PoseNet):
    """Answers with the heatmaps of the labels for the first people, and with noise after them."""

    heatmaps_NKHW: torch.Tensor
    next: int = 0

    def forward(self, images_B3HW: torch.Tensor, arch: Arch | None = None) -> torch.Tensor:
        first, self.next = self.next, self.next + len(images_B3HW)
        return self.heatmaps_NKHW[first : self.next]


@pytest.mark.parametrize("good", [1, 3, 8])
def test_an_arch_far_below_the_floor_is_scored_on_the_first_half_only(
    tiny_space: SearchSpace, monkeypatch: pytest.MonkeyPatch, good: int
) -> None:
    """Ten people in batches of 4: the first half are the first batch."""
    arch, evaluator = tiny_space.min_arch(), evaluator_of(tiny_space, flip_test=False)
    images = noise(tiny_space, 8, 2)
    score = InheritedScore(supernet_of(tiny_space).eval(), tiny_space, evaluator, images, 0.1)
    heatmaps, _ = evaluator.codec.encode(evaluator.crops.keypoints_BK3)
    heatmaps[good:] = heatmaps[good:].flip(3)
    networks: list[TrackedPose] = []

    def network(self: InheritedScore, arch: Arch) -> PoseNet:
        networks.append(TrackedPose(arch))
        networks[-1].heatmaps_NKHW = heatmaps
        return networks[-1]

    monkeypatch.setattr(InheritedScore, "network", network)
    found = evaluator.predict(network(score, arch))
    whole, half = evaluator.score(*found), score.above(arch, 99.0)[0]
    assert min(good, 4) / 4 - 0.1 < half < min(good, 4) / 4 + 0.5 and half != whole
    assert score(arch) == whole and score.above(arch, -math.inf) == (whole, False)
    for floor in (half - 0.2, half, half + 0.05, half + 0.15, 2.0):
        value, partial = score.above(arch, floor)
        assert partial == (floor > half + 0.1)
        assert networks[-1].next == (4 if partial else 10)
        assert value == (half if partial else whole)


def test_scored_in_halves_the_predictions_are_the_same_to_the_bit(tiny_space: SearchSpace) -> None:
    arch, evaluator = tiny_space.min_arch(), evaluator_of(tiny_space)
    score = InheritedScore(
        supernet_of(tiny_space).eval(), tiny_space, evaluator, noise(tiny_space, 8, 2)
    )
    assert score._halves is not None
    first, rest = score._halves
    network = score.network(arch)
    xy, scores = evaluator.predict(network)
    found, more = first.predict(network), rest.predict(network)
    assert np.array_equal(xy, np.concatenate((found[0], more[0])))
    assert np.array_equal(scores, np.concatenate((found[1], more[1])))
