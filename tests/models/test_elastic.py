"""Which weights a smaller layer uses: by hand, and against the dense layer with zeros."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import product
from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from vipnas.models.attention import context_channels
from vipnas.models.elastic import (
    ElasticBatchNorm2d,
    ElasticConv2d,
    ElasticDeconv2d,
    ElasticLayerNorm,
)
from vipnas.models.slicing import crop, slices_in_training


class Grouped(NamedTuple):
    """Channels and groups of a convolution."""

    in_channels: int
    out_channels: int
    groups: int


def nested_pairs() -> Iterator[tuple[Grouped, Grouped]]:
    """Full and smaller convolutions where each full group holds whole small ones, at every width:
    those that end inside a full group too."""
    for groups, blocks, columns, rows in product((1, 2, 3), (1, 2, 4), (1, 2), (1, 3)):
        full = Grouped(columns * blocks * groups, rows * blocks * groups, groups)
        for fewer in range(1, blocks * groups + 1):
            yield full, Grouped(columns * fewer, rows * fewer, fewer)


def numbered(*shape: int) -> Tensor:
    """Every entry is its own index."""
    return torch.arange(torch.Size(shape).numel(), dtype=torch.float64).view(shape)


def dense(weight: Tensor, groups: int) -> Tensor:
    """The same layer with one group: its blocks on the diagonal, zeros beside them."""
    blocks = weight.unflatten(0, (groups, -1))
    rows, columns = blocks.shape[1:3]
    wide = weight.new_zeros(groups * rows, groups * columns, *weight.shape[2:])
    for number, block in enumerate(blocks):
        place = slice(number * rows, (number + 1) * rows)
        wide[place, number * columns : (number + 1) * columns] = block
    return wide


def on_diagonal(weight: Tensor, groups: int) -> Tensor:
    """The weights that a layer with more groups keeps, with zeros in place of the others."""
    rows, columns = weight.shape[0] // groups, weight.shape[1] // groups
    mask = dense(weight.new_ones(weight.shape[0], columns, 1, 1), groups)
    assert mask.shape[:2] == weight.shape[:2] and rows * groups == weight.shape[0]
    return weight * mask


def centre(weight: Tensor, kernel_size: int) -> Tensor:
    border = (weight.shape[-1] - kernel_size) // 2
    return weight[..., border : border + kernel_size, border : border + kernel_size]


def test_leading_rows_and_columns() -> None:
    full = torch.tensor([[1.0, 2, 3], [4, 5, 6], [7, 8, 9]])
    assert crop(full, (2, 2)).tolist() == [[1, 2], [4, 5]]
    assert crop(torch.tensor([1.0, 2, 3]), (2,)).tolist() == [1, 2]
    assert crop(full, (3, 3)) is full


def test_the_window_of_a_kernel_is_its_centre() -> None:
    seven = numbered(1, 1, 7, 7)
    assert crop(seven, (1, 1, 5, 5))[0, 0, 0].tolist() == [8, 9, 10, 11, 12]
    assert crop(seven, (1, 1, 3, 3))[0, 0].tolist() == [[16, 17, 18], [23, 24, 25], [30, 31, 32]]
    assert torch.equal(crop(crop(seven, (1, 1, 5, 5)), (1, 1, 3, 3)), crop(seven, (1, 1, 3, 3)))
    assert crop(numbered(1, 1, 4, 4), (1, 1, 2, 2))[0, 0].tolist() == [[5, 6], [9, 10]]


def test_more_groups_take_the_block_diagonal_by_hand() -> None:
    full = numbered(4, 4, 1, 1)
    assert crop(full, (4, 2, 1, 1), 2, 1).flatten(1).tolist() == [
        [0, 1],
        [4, 5],
        [10, 11],
        [14, 15],
    ]
    assert crop(full, (4, 1, 1, 1), 4, 1).flatten().tolist() == [0, 5, 10, 15]
    # Two groups of two channels each become three of one: the second full group is cut in half.
    two_groups = numbered(4, 2, 1, 1)
    assert crop(two_groups, (3, 1, 1, 1), 3, 2).flatten().tolist() == [0, 3, 4]


def test_where_groups_do_not_nest_the_leading_columns_are_taken() -> None:
    full = numbered(12, 6, 1, 1)  # two groups of six; three of four straddle them
    assert torch.equal(crop(full, (12, 4, 1, 1), 3, 2), full[:, :4])
    # Columns would nest, but rows end elsewhere than the full layer's groups.
    full = numbered(8, 4, 1, 1)
    assert torch.equal(crop(full, (6, 2, 1, 1), 2, 2), full[:6, :2])


def test_a_grouped_convolution_is_the_wide_one_without_what_is_off_the_diagonal() -> None:
    generator = torch.Generator().manual_seed(0)
    pairs = list(nested_pairs())
    assert len(pairs) > 100
    for full, part in pairs:
        layer = ElasticConv2d(full.in_channels, full.out_channels, 5, groups=full.groups).double()
        torch.nn.init.normal_(layer.weight, generator=generator)
        x = torch.randn(2, part.in_channels, 6, 5, dtype=torch.float64, generator=generator)
        wide = dense(layer.weight, full.groups)[: part.out_channels, : part.in_channels]
        expected = F.conv2d(x, on_diagonal(centre(wide, 3), part.groups), padding=1)
        found = layer(x, part.out_channels, 3, part.groups)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12, msg=f"{full} {part}")


def test_a_grouped_deconvolution_is_the_wide_one_without_what_is_off_the_diagonal() -> None:
    generator = torch.Generator().manual_seed(0)
    for full, part in nested_pairs():
        layer = ElasticDeconv2d(full.in_channels, full.out_channels, 4, full.groups).double()
        torch.nn.init.normal_(layer.weight, generator=generator)
        x = torch.randn(2, part.in_channels, 4, 3, dtype=torch.float64, generator=generator)
        wide = dense(layer.weight, full.groups)[: part.in_channels, : part.out_channels]
        for kernel_size in (2, 4):
            weight = on_diagonal(centre(wide, kernel_size), part.groups)
            expected = F.conv_transpose2d(x, weight, None, 2, kernel_size // 2 - 1)
            found = layer(x, part.out_channels, kernel_size, part.groups)
            assert found.shape == (2, part.out_channels, 8, 6)
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-12, msg=f"{full} {part}")


def test_a_dense_layer_narrows_by_leading_rows_and_columns_whatever_divides_what() -> None:
    for full_in, full_out, in_channels, out_channels in product((6, 8), (6, 8), (3, 4, 6), (3, 4)):
        full = numbered(full_out, full_in, 1, 1)
        found = crop(full, (out_channels, in_channels, 1, 1))
        assert torch.equal(found, full[:out_channels, :in_channels])


def test_the_gradient_reaches_exactly_the_entries_in_use() -> None:
    for full, part in nested_pairs():
        weight = numbered(full.out_channels, full.in_channels // full.groups, 5, 5).requires_grad_()
        shape = (part.out_channels, part.in_channels // part.groups, 3, 3)
        used = crop(weight, shape, part.groups, full.groups)
        used.backward(torch.full(shape, 2.0, dtype=torch.float64))
        expected = torch.zeros(weight.numel(), dtype=torch.float64)
        expected[used.detach().flatten().long()] = 2.0
        assert weight.grad is not None
        assert torch.equal(weight.grad.flatten(), expected)
        assert int((expected > 0).sum()) == torch.Size(shape).numel()  # no entry used twice


def test_the_gradient_of_a_parameter_is_what_pytorch_would_add_up() -> None:
    """Of a tensor that is no parameter the gradient takes PyTorch's own way."""
    generator = torch.Generator().manual_seed(0)
    for full, part in [*nested_pairs(), (Grouped(12, 12, 2), Grouped(12, 12, 3))]:
        weight = numbered(full.out_channels, full.in_channels // full.groups, 3, 3).requires_grad_()
        shape = (part.out_channels, part.in_channels // part.groups, 3, 3)
        gradient = torch.randn(shape, dtype=torch.float64, generator=generator)
        found: list[Tensor | None] = []
        for source in (weight, weight * 1):
            weight.grad = None
            crop(source, shape, part.groups, full.groups).backward(gradient)
            found.append(weight.grad)
        assert found[0] is not None and found[1] is not None
        assert torch.equal(found[0], found[1])
    doubled = numbered(4, 4, 1, 1).requires_grad_()
    for _ in range(2):
        crop(doubled, (2, 2, 1, 1)).sum().backward()
    assert doubled.grad is not None
    assert doubled.grad.flatten(1).tolist() == [[2, 2, 0, 0], [2, 2, 0, 0], [0] * 4, [0] * 4]


def test_a_gradient_that_lies_in_another_order_is_added_to_all_the_same() -> None:
    weight = numbered(4, 4, 3, 3).requires_grad_()
    weight.grad = numbered(4, 4, 3, 3).contiguous(memory_format=torch.channels_last)
    crop(weight, (2, 3, 1, 1)).sum().backward()
    expected = numbered(4, 4, 3, 3)
    expected[:2, :3, 1, 1] += 1
    assert torch.equal(weight.grad, expected)


def test_a_cleared_gradient_is_used_again_in_training_only() -> None:
    weight = numbered(4, 4, 1, 1).requires_grad_()

    def gradient_of(columns: int) -> Tensor:
        weight.grad = None
        crop(weight, (2, columns, 1, 1)).sum().backward()
        assert weight.grad is not None
        return weight.grad

    two, one = ([[1.0] * n + [0.0] * (4 - n)] * 2 + [[0.0] * 4] * 2 for n in (2, 1))
    held = gradient_of(2)
    assert gradient_of(1).flatten(1).tolist() == one
    assert held.flatten(1).tolist() == two
    with slices_in_training():
        used = gradient_of(2)
        assert used.flatten(1).tolist() == two
        assert gradient_of(1) is used
        assert used.flatten(1).tolist() == one
        weight.grad = torch.ones_like(weight)  # as after a run of full size
        crop(weight, (2, 1, 1, 1)).sum().backward()
        assert weight.grad.flatten(1).tolist() == [[2, 1, 1, 1]] * 2 + [[1] * 4] * 2
        assert gradient_of(2) is used
        assert used.flatten(1).tolist() == two
    assert gradient_of(1) is not used
    assert used.flatten(1).tolist() == two


@pytest.mark.parametrize("context", [nullcontext, slices_in_training])
def test_slices_follow_weights_and_gradients_that_were_replaced(
    context: Callable[[], AbstractContextManager[None]],
) -> None:
    with context():
        check_that_slices_follow()


def check_that_slices_follow() -> None:
    layer = ElasticConv2d(4, 4)
    layer.weight.data.fill_(1.0)
    x = torch.ones(1, 2, 1, 1)

    def gradient_of(layer: ElasticConv2d) -> list[list[float]]:
        out = layer(x, 2)
        assert torch.equal(out, 2 * layer.weight[0, 0, 0, 0].expand_as(out))
        out.sum().backward()
        assert layer.weight.grad is not None
        return layer.weight.grad.flatten(1).tolist()  # type: ignore[no-any-return]

    once, twice, none = [1.0, 1.0, 0.0, 0.0], [2.0, 2.0, 0.0, 0.0], [0.0] * 4
    assert gradient_of(layer) == [once, once, none, none]
    copied = copy.deepcopy(layer)
    copied.weight.grad = None
    assert gradient_of(copied) == [once, once, none, none]
    assert gradient_of(layer) == [twice, twice, none, none]
    layer.weight.data = torch.full((4, 4, 1, 1), 3.0)
    layer.weight.grad = torch.eye(4).view(4, 4, 1, 1)
    assert gradient_of(layer) == [[2, 1, 0, 0], [1, 2, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    layer.weight.data = torch.arange(16.0).view(4, 4, 1, 1).transpose(0, 1)
    layer.weight.grad = None
    assert layer(x, 2).flatten().tolist() == [0 + 4, 1 + 5]
    layer.weight.data = torch.full((4, 4, 1, 1), 3.0)
    with torch.no_grad():
        layer.weight.fill_(5.0)
    layer.weight.grad = None
    assert gradient_of(layer) == [once, once, none, none]


def test_a_narrow_batch_norm_is_that_of_the_leading_channels() -> None:
    generator = torch.Generator().manual_seed(0)
    norm = ElasticBatchNorm2d(6).double()
    assert norm.running_mean is not None and norm.running_var is not None
    for tensor in (norm.weight.data, norm.bias.data, norm.running_mean):
        tensor.normal_(generator=generator)
    norm.running_var.uniform_(0.5, 2, generator=generator)
    before = norm.running_mean.clone()
    x = torch.randn(4, 3, 5, 2, dtype=torch.float64, generator=generator)
    scale, shift = norm.weight[:3].view(3, 1, 1), norm.bias[:3].view(3, 1, 1)

    mean, variance = x.mean((0, 2, 3), True), x.var((0, 2, 3), correction=0, keepdim=True)
    expected = (x - mean) / (variance + norm.eps).sqrt() * scale + shift
    torch.testing.assert_close(norm.train()(x), expected)
    assert torch.equal(norm.running_mean, before)
    assert norm.num_batches_tracked == 0

    mean, variance = (kept[:3].view(3, 1, 1) for kept in (norm.running_mean, norm.running_var))
    expected = (x - mean) / (variance + norm.eps).sqrt() * scale + shift
    torch.testing.assert_close(norm.eval()(x), expected)


def test_a_narrow_layer_norm_is_that_of_the_leading_channels() -> None:
    norm = ElasticLayerNorm(4).double()
    norm.weight.data.copy_(torch.tensor([2.0, 3, 5, 7]).view(4, 1, 1))
    norm.bias.data.copy_(torch.tensor([1.0, -1, 0, 0]).view(4, 1, 1))
    found = norm(torch.tensor([4.0, 8.0], dtype=torch.float64).view(1, 2, 1, 1)).flatten()
    # Mean 6 and deviation 2: the two are -1 and 1.
    torch.testing.assert_close(
        found, torch.tensor([-1.0, 2.0], dtype=torch.float64), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize(
    ("full", "wanted"),
    [
        (ElasticConv2d(8, 8, 3, groups=8), ElasticConv2d(8, 8, 3, groups=2)),
        (ElasticConv2d(8, 8, 1), ElasticConv2d(8, 8, 3)),
        (ElasticConv2d(8, 1, 1, bias=True), ElasticConv2d(8, 4, 1, bias=True)),
        (ElasticDeconv2d(8, 8, 2, 1), ElasticDeconv2d(8, 8, 4, 1)),
        (ElasticBatchNorm2d(1), ElasticBatchNorm2d(2)),
    ],
    ids=["groups", "kernel", "width", "deconv kernel", "batch norm"],
)
def test_nothing_is_inherited_from_a_smaller_layer(
    full: ElasticConv2d, wanted: ElasticConv2d
) -> None:
    """Copying would repeat the one row, column or pixel that is there."""
    with pytest.raises(ValueError, match=r"weight: expected .* at least \(.*\), got \(.*\)"):
        wanted.inherit(full)


def test_the_hidden_width_of_global_context_never_falls_with_the_width() -> None:
    widths = [context_channels(channels) for channels in range(1, 2000)]
    assert widths == sorted(widths)
    assert [context_channels(width) for width in (48, 80, 256, 304, 608)] == [16, 16, 16, 19, 38]


@pytest.mark.parametrize(
    ("layer", "channels", "fan_in"),
    [
        (ElasticConv2d(64, 128, 3), (64, 128), 576),
        (ElasticConv2d(256, 512, 5, groups=64), (256, 512), 100),
        (ElasticDeconv2d(128, 64, 4, 1), (128, 64), 512),
        (ElasticDeconv2d(512, 256, 4, 64), (512, 256), 32),
    ],
    ids=["dense", "grouped", "deconv", "grouped deconv"],
)
def test_weights_before_a_norm_start_by_fan_in(
    layer: ElasticConv2d | ElasticDeconv2d, channels: tuple[int, int], fan_in: int
) -> None:
    """Whatever they are made of, what comes out of unit noise has a deviation of 0.3 sqrt(2)."""
    torch.manual_seed(0)
    layer.reset_parameters()
    assert layer.weight.std().item() == pytest.approx(0.3 * (2 / fan_in) ** 0.5, rel=0.05)
    in_channels, out_channels = channels
    x = torch.randn(2, in_channels, 16, 12)
    made = layer(x, out_channels, layer.weight.shape[-1], layer.groups)[..., 4:-4, 4:-4]
    assert made.std().item() == pytest.approx(0.3 * 2**0.5, rel=0.1)


def test_heatmaps_and_attention_start_at_next_to_nothing() -> None:
    layer = ElasticConv2d(64, 64, bias=True)
    layer.reset_parameters()
    assert layer.weight.std().item() == pytest.approx(0.001, rel=0.1)


def test_a_narrow_convolution_with_a_stride_is_not_trained_as_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In channels_last its backward writes past its buffers; the numbers are the same."""
    strides = []

    def recorded(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, *more: int) -> Tensor:
        strides.append(stride)
        return conv2d(x, weight, bias, stride, *more)

    conv2d = F.conv2d
    monkeypatch.setattr(F, "conv2d", lambda *args, groups: recorded(*args))
    for channels, in_training in ((4, 1), (7, 1), (8, 2)):
        layer = ElasticConv2d(channels, 6, stride=2)
        torch.manual_seed(0)
        layer.reset_parameters()
        x = torch.randn(2, channels, 7, 6)
        trained, run = layer.train()(x, 6), layer.eval()(x, 6)
        torch.testing.assert_close(trained, run)
        assert strides[-2:] == [in_training, 2]
