"""A grouped layer computed as a dense one is the same layer."""

from __future__ import annotations

import pytest
import torch
from networks_fixture import randomise_batch_norm
from torch import Tensor
from torch.nn import functional as F

from vipnas.arch.image import Arch
from vipnas.models import grouped
from vipnas.models.elastic import ElasticConv2d, ElasticDeconv2d
from vipnas.models.grouped import DensifyGroupedConvs, Spread, is_faster_dense
from vipnas.models.posenet import PoseNet, extract
from vipnas.space.image import SearchSpace


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("groups", [2, 4, 16])
def test_output_and_gradients_are_those_of_the_groups(groups: int, transposed: bool) -> None:
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)

    rows, others = (16, 32) if transposed else (32, 16)
    x, weight = noise(2, 16, 6, 5), noise(rows, others // groups, 3, 3)
    run = F.conv_transpose2d if transposed else F.conv2d
    outcomes = []
    for form, count in ((weight, groups), (Spread.apply(weight, groups), 1)):
        output = run(x, form, None, 1, 1, groups=count)
        outcomes.append((output, *torch.autograd.grad(output.square().sum(), (x, weight))))
    for found, expected in zip(*outcomes, strict=True):
        torch.testing.assert_close(found, expected)


def test_the_gradient_may_come_in_any_memory_order() -> None:
    weight = torch.randn(8, 3, 3, 3, requires_grad=True)
    gradient = torch.randn(8, 12, 3, 3)
    found = [
        torch.autograd.grad(Spread.apply(weight, 4), weight, gradient.contiguous(memory_format=one))
        for one in (torch.contiguous_format, torch.channels_last)
    ]
    assert torch.equal(*(gradients[0] for gradients in found))
    assert torch.equal(found[0][0][2:4], gradient[2:4, 3:6])


def test_what_is_dense_by_hand() -> None:
    def is_dense(rows: int, columns: int, groups: int, transposed: bool = False) -> bool:
        return is_faster_dense(torch.empty(rows, columns, 3, 3), groups, transposed)

    assert is_dense(160, 10, 16) and is_dense(80, 5, 16) and is_dense(192, 48, 4)
    assert not is_dense(120, 1, 120)  # depthwise
    assert not is_dense(400, 4, 100) and not is_dense(352, 88, 4)
    assert is_dense(160, 1, 160, transposed=True)


@pytest.mark.parametrize(
    "space",
    [
        *("tiny", "inverted", "lat_vipnas"),
        *(pytest.param(f"s_vipnas_{name}", marks=pytest.mark.slow) for name in ("res50", "mbv3")),
    ],
    indirect=True,
)
def test_a_network_chooses_only_where_it_is_told_to(
    space: SearchSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And computes the same, whole and as a slice; of all layers that have groups."""
    network, arch = PoseNet(space.max_arch()).double().eval(), space.min_arch()
    randomise_batch_norm(network, seed=0)
    images = torch.randn(1, 3, *space.input_hw, dtype=torch.float64)
    apply, spread = Spread.apply, []

    def noted(*given: object) -> Tensor:
        spread.append(given)
        return apply(*given)

    def outcome(one: Arch | None) -> list[Tensor]:
        network.zero_grad(set_to_none=True)
        heatmaps = network(images, one)
        heatmaps.square().sum().backward()
        return [heatmaps, *(p.grad for p in network.parameters() if p.grad is not None)]

    monkeypatch.setattr(Spread, "apply", noted)
    plain = [outcome(one) for one in (None, arch)]
    with DensifyGroupedConvs():
        on_a_cpu = outcome(arch)
        assert not spread  # nothing was measured there
        monkeypatch.setattr(grouped, "_is_measured", lambda x: True)
        found = [outcome(one) for one in (None, arch)]
    dense = [
        layer
        for one in (network, extract(network, arch))
        for layer in one.modules()
        if isinstance(layer, (ElasticConv2d, ElasticDeconv2d))
        and layer.groups > 1
        and is_faster_dense(layer.weight, layer.groups, isinstance(layer, ElasticDeconv2d))
    ]
    assert len(spread) == len(dense) > 0
    outcome(arch)
    assert len(spread) == len(dense)  # no longer
    assert all(torch.equal(one, other) for one, other in zip(on_a_cpu, plain[1], strict=True))
    for one, other in zip(sum(found, []), sum(plain, []), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)
