"""Slice = extracted = reloaded from JSON, bit for bit, over random archs of every shipped space."""

from __future__ import annotations

import random

import pytest
import torch
from networks_fixture import randomise_batch_norm
from torch import Tensor, nn
from torch.func import functional_call

from vipnas.arch.image import Arch
from vipnas.arch.io import arch_from_json
from vipnas.models.posenet import PoseNet, extract, insert
from vipnas.space.image import SearchSpace


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
    reloaded = PoseNet(arch_from_json(arch.to_json(), "test"), initialise=False).eval()
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


@pytest.mark.parametrize("seed", range(2))
def test_random_slice_equals_the_extracted_network(
    space: SearchSpace, supernet: PoseNet, seed: int
) -> None:
    check_equivalence(supernet, space.sample(random.Random(seed)))


@torch.no_grad()
@pytest.mark.parametrize("seed", range(2))
def test_what_is_inserted_is_extracted_and_all_else_stays(space: SearchSpace, seed: int) -> None:
    archs = (space.max_arch(), space.sample(random.Random(seed)))
    full, network = (PoseNet(arch, initialise=False) for arch in archs)
    for parameter in full.parameters():
        parameter.fill_(1.0)
    for parameter in network.parameters():
        parameter.fill_(2.0)
    insert(network, full)
    assert all((p == 2).all() for p in extract(full, network.arch).parameters())
    changed = sum(int((p == 2).sum()) for p in full.parameters())
    assert changed == sum(p.numel() for p in network.parameters())
    with pytest.raises(ValueError, match=r"expected a tensor of at least \(.*\), got \(.*\)"):
        insert(full, PoseNet(space.min_arch(), initialise=False))


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


def gradients(network: PoseNet) -> dict[str, Tensor]:
    return {
        name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        for name, parameter in network.named_parameters()
    }


def test_gradients_of_slices_are_those_of_pytorchs_own_slicing(
    space: SearchSpace, supernet: PoseNet
) -> None:
    """Bit for bit, added up over archs. What is no parameter is sliced as PyTorch does it."""
    rng = random.Random(5)
    images = torch.randn(2, 3, *space.input_hw, generator=torch.Generator().manual_seed(1))
    archs = [space.min_arch(), space.sample(rng), space.sample(rng)]
    supernet.zero_grad()
    for arch in archs:
        supernet(images, arch).square().sum().backward()
    found = {name: gradient.clone() for name, gradient in gradients(supernet).items()}
    supernet.zero_grad()
    for arch in archs:
        copies = {name: parameter * 1 for name, parameter in supernet.named_parameters()}
        functional_call(supernet, copies, (images, arch)).square().sum().backward()
    for name, expected in gradients(supernet).items():
        assert torch.equal(found[name], expected), name
    supernet.zero_grad()


def test_gradients_of_a_slice_equal_those_of_the_extracted_network(
    space: SearchSpace, supernet: PoseNet
) -> None:
    arch = space.sample(random.Random(5))
    images = torch.randn(2, 3, *space.input_hw, generator=torch.Generator().manual_seed(1))
    extracted = extract(supernet, arch)
    supernet.zero_grad()
    supernet(images, arch).square().sum().backward()
    extracted(images).square().sum().backward()
    inside, outside = (
        sum(gradient.double().square().sum() for gradient in gradients(network).values())
        for network in (extracted, supernet)
    )
    torch.testing.assert_close(inside, outside, rtol=1e-5, atol=0)
    supernet.zero_grad()


def test_gradients_that_would_be_lost_are_an_error(tiny_space: SearchSpace) -> None:
    network = PoseNet(tiny_space.max_arch())
    images, arch = torch.randn(2, 3, *tiny_space.input_hw), tiny_space.min_arch()
    loss = network(images, arch).square().sum()
    network.zero_grad()
    with pytest.raises(RuntimeError, match="clear them before the forward pass"):
        loss.backward()
    with pytest.raises(RuntimeError, match="cannot create a graph"):
        network(images, arch).square().sum().backward(create_graph=True)

    loss = network(images, arch).square().sum()
    network.zero_grad(set_to_none=False)
    loss.backward()
    assert gradients(network)["layers.stem.conv.weight"].any()
    loss = network(images, tiny_space.max_arch()).square().sum()  # no slice: PyTorch's own way
    network.zero_grad()
    loss.backward()
    assert gradients(network)["layers.stem.conv.weight"].any()


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
