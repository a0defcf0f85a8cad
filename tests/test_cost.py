"""MACs and parameters by hand, and against the counters of PyTorch and fvcore."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from networks_fixture import of_depth_1
from torch.utils.flop_counter import FlopCounterMode

from vipnas.arch.image import Arch, DeconvArch, StageArch, StemArch
from vipnas.arch.io import read_arch
from vipnas.models import counting as cost_module
from vipnas.models.attention import SqueezeExcitation, excitation_channels
from vipnas.models.counting import count_cost, layer_costs
from vipnas.models.posenet import PoseNet
from vipnas.quantities import Cost
from vipnas.shipped import find_shipped
from vipnas.space.image import SearchSpace
from vipnas.space.yaml import read_space

Product = Callable[[torch.Tensor, torch.Tensor], object]
PRODUCTS_OF_FVCORE = {"conv", "linear", "matmul"}

STEM = StemArch(8, 3, "relu", False)
STAGE = StageArch(16, 1, 3, 1, False, 1, 2, "relu")
BASE = Arch("residual", (16, 8), STEM, (STAGE,), (), 2)

# The stem at 8 x 4: 8 filters of 3 x 3 x 3. Batch norm: a scale and a shift per channel.
STEM_COST = Cost(macs=8 * 27 * 32, params=8 * 27 + 2 * 8)
# The heatmaps at 4 x 2: 2 filters of 16, and their biases, whose additions are not counted.
HEATMAP_COST = Cost(macs=2 * 16 * 8, params=2 * 16 + 2)


def total(*costs: Cost) -> Cost:
    return Cost(sum(cost.macs for cost in costs), sum(cost.params for cost in costs))


def residual(groups: int = 1, kernel_size: int = 3) -> Cost:
    """The first block of BASE, from 8 channels at 8 x 4 to 16 at 4 x 2."""
    conv = 16 * 16 // groups * kernel_size**2
    macs = 16 * 8 * 32 + conv * 8 + 16 * 16 * 8 + 16 * 8 * 8  # 1x1, k x k, 1x1, projection
    params = 16 * 8 + conv + 16 * 16 + 16 * 8 + 4 * 2 * 16
    return Cost(macs, params)


def with_stage(**changes: object) -> Arch:
    return replace(BASE, stages=(replace(STAGE, **changes),))  # type: ignore[arg-type]


def test_a_residual_network_by_hand() -> None:
    assert count_cost(BASE) == total(STEM_COST, residual(), HEATMAP_COST)


def test_groups_divide_and_kernels_multiply_by_hand() -> None:
    assert count_cost(with_stage(groups=4)) == total(STEM_COST, residual(4), HEATMAP_COST)
    found = count_cost(with_stage(groups=16, kernel_size=7))
    assert found == total(STEM_COST, residual(16, 7), HEATMAP_COST)


def test_a_second_block_by_hand() -> None:
    # No stride, no projection: 16 channels at 4 x 2.
    second = Cost(macs=(256 + 256 * 9 + 256) * 8, params=256 + 256 * 9 + 256 + 3 * 2 * 16)
    assert count_cost(with_stage(depth=2)) == total(STEM_COST, residual(), second, HEATMAP_COST)


def test_global_context_by_hand() -> None:
    # Mask 16 -> 1 and the weighted mean at 8 positions; then 16 -> 16 -> 16 at one, a layer norm.
    macs = 16 * 8 + 16 * 8 + 16 * 16 + 16 * 16
    params = (16 + 1) + (256 + 16) + (256 + 16) + 2 * 16
    found = count_cost(with_stage(attention=True))
    assert found == total(STEM_COST, residual(), Cost(macs, params), HEATMAP_COST)


def test_an_inverted_residual_with_squeeze_excitation_by_hand() -> None:
    stage = replace(STAGE, expand_ratio=3, groups=24, width=8, attention=True)
    arch = replace(BASE, family="inverted_residual", stages=(stage,), num_keypoints=1)
    block = Cost(
        # 8 -> 24 at 8 x 4, depthwise and 24 -> 8 at 4 x 2, gate 24 -> 6 -> 24 at one position
        macs=8 * 24 * 32 + 24 * 9 * 8 + 24 * 8 * 8 + 2 * 24 * 6,
        params=8 * 24 + 24 * 9 + 24 * 8 + (24 * 6 + 6) + (6 * 24 + 24) + 2 * (24 + 24 + 8),
    )
    assert count_cost(arch) == total(STEM_COST, block, Cost(8 * 8, 8 + 1))


def test_the_narrowest_squeeze_excitation_has_one_channel_inside() -> None:
    x = torch.ones(1, 2, 3, 3)
    assert SqueezeExcitation(2)(x).shape == x.shape
    assert [excitation_channels(width) for width in (2, 4, 64)] == [1, 1, 16]


def test_a_deconvolution_by_hand() -> None:
    # Every one of 4 x 2 input pixels meets each weight once. Then heatmaps at 8 x 4 of 4 channels.
    for kernel_size, groups in ((4, 1), (2, 1), (4, 4)):
        arch = replace(BASE, head=(DeconvArch(4, kernel_size, groups),))
        weights = 16 * 4 // groups * kernel_size**2
        head = total(Cost(weights * 8, weights + 8), Cost(2 * 4 * 32, 2 * 4 + 2))
        assert count_cost(arch) == total(STEM_COST, residual(), head)


def test_max_pooling_costs_nothing_but_quarters_what_follows() -> None:
    pooled = replace(BASE, input_hw=(32, 16), stem=replace(STEM, max_pool=True))
    stem = Cost(STEM_COST.macs * 4, STEM_COST.params)
    assert count_cost(pooled) == total(stem, residual(), HEATMAP_COST)


def counted_by_torch(arch: Arch) -> Cost:
    with torch.device("meta"):
        network = PoseNet(arch).eval()
        images = torch.empty(1, 3, *arch.input_hw)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(images)
    flops = counter.get_total_flops()
    assert flops % 2 == 0
    return Cost(flops // 2, sum(parameter.numel() for parameter in network.parameters()))


def test_random_members_cost_what_torch_counts(space: SearchSpace) -> None:
    rng = random.Random(0)
    for arch in (space.min_arch(), of_depth_1(space.max_arch()), space.sample(rng)):
        assert count_cost(arch) == counted_by_torch(arch)


@pytest.mark.slow
def test_a_hundred_random_members_cost_what_torch_counts(shipped_space: SearchSpace) -> None:
    rng = random.Random(0)
    for _ in range(100):
        arch = shipped_space.sample(rng)
        assert count_cost(arch) == counted_by_torch(arch)


def test_blocks_that_were_counted_are_not_run_again(
    tiny_space: SearchSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    arch = tiny_space.max_arch()
    expected = count_cost(arch)
    monkeypatch.setattr(cost_module, "MacCounter", None)
    assert count_cost(arch) == expected


@pytest.mark.parametrize(
    "product",
    [
        lambda a, b: torch.bmm(a, b),
        lambda a, b: a.bmm(b),
        lambda a, b: torch.baddbmm(torch.ones(1, 2, 2), a, b),
        lambda a, b: torch.nn.functional.conv1d(a, b[:, :2]),
        lambda a, b: torch.nn.MultiheadAttention(3, 1)(a, a, a),
    ],
)
def test_a_product_without_a_formula_is_an_error_and_not_zero(product: Product) -> None:
    with pytest.raises(AssertionError, match="no formula"), cost_module.MacCounter():
        product(torch.ones(1, 2, 3), torch.ones(1, 3, 2))


@pytest.mark.parametrize("product", [torch.matmul, torch.Tensor.matmul, lambda a, b: a @ b])
def test_a_product_of_matrices_is_counted_however_it_is_written(product: Product) -> None:
    with cost_module.MacCounter() as counter:
        product(torch.ones(1, 2, 3), torch.ones(1, 3, 5))
    assert counter.macs == 2 * 3 * 5


def test_the_numbers_are_printed_in_millions() -> None:
    assert str(Cost(1_464_409_440, 7_286_772)) == "1,464.41 MMACs, 7.287 M parameters"


def test_the_layers_of_a_network_by_hand() -> None:
    layers = layer_costs(BASE)
    assert [layer.name for layer, _ in layers] == ["stem", "stage1_block1", "heatmaps"]
    by_hand = ((STEM_COST, (8, 8, 4)), (residual(), (16, 4, 2)), (HEATMAP_COST, (2, 4, 2)))
    assert [tuple(cost) for _, cost in layers] == [
        (cost.macs, cost.params, output_chw) for cost, output_chw in by_hand
    ]


def counted_by_fvcore(arch: Arch) -> int:
    """MACs of convolutions and products; fvcore also counts norms, which fold, and pooling."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from fvcore.nn import FlopCountAnalysis

        network = PoseNet(arch, initialise=False).eval()
        analysis = FlopCountAnalysis(network, torch.zeros(1, 3, *arch.input_hw))
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        counts = analysis.by_operator()
    assert counts.keys() <= PRODUCTS_OF_FVCORE | {"batch_norm", "layer_norm", "adaptive_avg_pool2d"}
    return sum(counts[name] for name in PRODUCTS_OF_FVCORE)


def test_every_kind_of_layer_has_the_macs_that_fvcore_counts(space: SearchSpace) -> None:
    arch = of_depth_1(space.max_arch())
    assert count_cost(arch).macs == counted_by_fvcore(arch)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["published/s_vipnas_res50", "published/s_vipnas_mbv3"])
def test_published_networks_have_the_macs_that_fvcore_counts(name: str) -> None:
    arch = read_arch(find_shipped("search_spaces", name))
    assert count_cost(arch).macs == counted_by_fvcore(arch)


@pytest.mark.slow
def test_members_of_lat_vipnas_have_the_macs_that_fvcore_counts() -> None:
    space = read_space(find_shipped("search_spaces", "lat_vipnas"))
    for arch in (space.min_arch(), space.max_arch(), space.sample(random.Random(0))):
        assert count_cost(arch).macs == counted_by_fvcore(arch)
