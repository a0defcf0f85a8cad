"""Slice = extracted = reloaded from JSON, bit for bit, over random archs of every shipped space."""

from __future__ import annotations

import random

import pytest
import torch
from torch import nn

from vipnas.arch import Arch, arch_from_json
from vipnas.models.posenet import PoseNet, extract
from vipnas.space import SearchSpace


def randomise_batch_norm(network: nn.Module, seed: int) -> None:
    """Statistics and scales of a trained network: at their initial values many mistakes cancel."""
    generator = torch.Generator().manual_seed(seed)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None and layer.running_var is not None
            layer.running_mean.normal_(0, 0.1, generator=generator)
            layer.running_var.uniform_(0.5, 1.5, generator=generator)
            nn.init.uniform_(layer.weight, 0.5, 1.5, generator=generator)
            nn.init.normal_(layer.bias, 0, 0.1, generator=generator)
    for parameter in network.parameters():
        if parameter.dim() == 4:  # the published initialisation is too small to tell outputs apart
            fan_in = parameter[0].numel()
            nn.init.normal_(parameter, 0, fan_in**-0.5, generator=generator)


@pytest.fixture(scope="module")
def supernet(space: SearchSpace) -> PoseNet:
    torch.manual_seed(0)
    network = PoseNet(space.max_arch()).eval()
    randomise_batch_norm(network, seed=0)
    return network


@torch.no_grad()
def check_equivalence(supernet: PoseNet, arch: Arch) -> None:
    height, width = arch.input_hw
    images = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))
    sliced = supernet(images, arch)
    extracted = extract(supernet, arch)
    reloaded = PoseNet(arch_from_json(arch.to_json(), "test")).eval()
    reloaded.load_state_dict(extracted.state_dict())
    assert sliced.shape == (2, arch.num_keypoints, *arch.heatmap_hw)
    assert sliced.std() > 1e-3
    assert torch.equal(sliced, extracted(images))
    assert torch.equal(sliced, reloaded(images))


def test_largest_and_smallest_slice_equal_the_extracted_network(
    space: SearchSpace, supernet: PoseNet
) -> None:
    check_equivalence(supernet, space.max_arch())
    check_equivalence(supernet, space.min_arch())


@pytest.mark.parametrize("seed", range(4))
def test_random_slice_equals_the_extracted_network(
    space: SearchSpace, supernet: PoseNet, seed: int
) -> None:
    check_equivalence(supernet, space.sample(random.Random(seed)))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_hundred_random_slices_equal_the_extracted_networks(
    shipped_space: SearchSpace,
) -> None:
    network = PoseNet(shipped_space.max_arch()).eval()
    randomise_batch_norm(network, seed=0)
    rng = random.Random(0)
    for _ in range(100):
        check_equivalence(network, shipped_space.sample(rng))


def test_gradients_of_a_slice_equal_those_of_the_extracted_network(
    space: SearchSpace, supernet: PoseNet
) -> None:
    arch = space.sample(random.Random(5))
    height, width = arch.input_hw
    images = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))
    extracted = extract(supernet, arch)
    supernet.zero_grad()
    supernet(images, arch).square().sum().backward()
    extracted(images).square().sum().backward()
    inside = sum(
        p.grad.double().square().sum() for p in extracted.parameters() if p.grad is not None
    )
    outside = sum(
        p.grad.double().square().sum() for p in supernet.parameters() if p.grad is not None
    )
    torch.testing.assert_close(inside, outside, rtol=1e-5, atol=0)


def test_a_slice_leaves_the_running_statistics_alone(space: SearchSpace, supernet: PoseNet) -> None:
    arch = space.min_arch()
    before = {name: buffer.clone() for name, buffer in supernet.named_buffers()}
    supernet.train()
    supernet(torch.randn(2, 3, *arch.input_hw), arch)
    supernet.eval()
    narrow = [
        name
        for name, buffer in supernet.named_buffers()
        if buffer.dim() == 1 and not torch.equal(buffer, before[name])
    ]
    full_width = {
        name
        for name, layer in PoseNet(arch).named_modules()
        if isinstance(layer, nn.BatchNorm2d)
        and layer.num_features == supernet.get_submodule(name).num_features
    }
    assert {name.rpartition(".")[0] for name in narrow} <= full_width
    supernet.load_state_dict({**supernet.state_dict(), **before})
