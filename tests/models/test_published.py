"""The released networks are ours, tensor by tensor, and any weights go to their format and back."""

from __future__ import annotations

import io
import random
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from model_fixture import header_of_arch
from published_fixture import read_keys, read_reference, reference_images, reference_state
from torch import Tensor

from vipnas.arch.image import Arch, DeconvArch, StageArch, StemArch
from vipnas.arch.io import read_arch
from vipnas.models.posenet import PoseNet
from vipnas.models.published import (
    NUMPY_ARRAYS,
    from_published,
    header_in,
    is_published,
    published_state,
    save_published,
    without_counterpart,
)
from vipnas.shipped import find_shipped
from vipnas.space.yaml import read_space

FAMILIES = ("s_vipnas_res50", "s_vipnas_mbv3")


def released(name: str) -> Arch:
    return read_arch(find_shipped("search_spaces", f"published/{name}"))


def small_arch(family: Literal["residual", "inverted_residual"] = "residual") -> Arch:
    residual = family == "residual"
    activation: Literal["relu", "hardswish"] = "relu" if residual else "hardswish"
    stage = StageArch(
        width=24,
        depth=2,
        kernel_size=3,
        groups=4,
        attention=True,
        expand_ratio=1 if residual else 3,
        stride=2,
        activation=activation,
    )
    return Arch(
        family=family,
        input_hw=(64, 48),
        stem=StemArch(width=8, kernel_size=3, activation=activation, max_pool=residual),
        stages=(replace(stage, width=16, stride=1), stage),
        head=(DeconvArch(16, 4, 4), DeconvArch(8, 2, 1)),
        num_keypoints=5,
    )


def fill(network: PoseNet, seed: int) -> PoseNet:
    """Values that differ everywhere, counters of batch norms included."""
    generator = torch.Generator().manual_seed(seed)
    for tensor in network.state_dict().values():
        tensor.random_(-1000, 1000, generator=generator)
    return network


def same(first: PoseNet, second: PoseNet) -> bool:
    """Bit for bit, names and types included."""
    states = first.state_dict(), second.state_dict()
    return list(states[0]) == list(states[1]) and all(
        a.dtype == b.dtype and torch.equal(a, b)
        for a, b in zip(states[0].values(), states[1].values(), strict=True)
    )


# The names a second time, block by block as the released lists have them: (name, shape).
Entries = Iterator[tuple[str, tuple[int, ...]]]


def norm(name: str, channels: int) -> Entries:
    for tensor in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.{tensor}", (channels,)
    yield f"{name}.num_batches_tracked", ()


def conv_with_bias(name: str, out: int, channels: int) -> Entries:
    yield f"{name}.weight", (out, channels, 1, 1)
    yield f"{name}.bias", (out,)


def residual_block(name: str, stage: StageArch, channels: int, first: bool) -> Entries:
    width, kernel = stage.width, stage.kernel_size
    yield f"{name}.conv1.weight", (width, channels, 1, 1)
    yield from norm(f"{name}.bn1", width)
    yield f"{name}.conv2.weight", (width, width // stage.groups, kernel, kernel)
    yield from norm(f"{name}.bn2", width)
    yield f"{name}.conv3.weight", (width, width, 1, 1)
    yield from norm(f"{name}.bn3", width)
    if stage.attention:
        hidden = int(width * max(1 / 16, 16 / width))
        yield from conv_with_bias(f"{name}.attention.conv_mask", 1, width)
        yield from conv_with_bias(f"{name}.attention.channel_add_conv.0", hidden, width)
        yield f"{name}.attention.channel_add_conv.1.weight", (hidden, 1, 1)
        yield f"{name}.attention.channel_add_conv.1.bias", (hidden, 1, 1)
        yield from conv_with_bias(f"{name}.attention.channel_add_conv.3", width, hidden)
    if first:
        yield f"{name}.downsample.0.weight", (width, channels, 1, 1)
        yield from norm(f"{name}.downsample.1", width)


def inverted_block(name: str, stage: StageArch, channels: int) -> Entries:
    middle, kernel = stage.width * stage.expand_ratio, stage.kernel_size
    if stage.expand_ratio != 1:
        yield f"{name}.expand_conv.conv.weight", (middle, channels, 1, 1)
        yield from norm(f"{name}.expand_conv.bn", middle)
    yield f"{name}.depthwise_conv.conv.weight", (middle, middle // stage.groups, kernel, kernel)
    yield from norm(f"{name}.depthwise_conv.bn", middle)
    if stage.attention:
        yield from conv_with_bias(f"{name}.se.conv1.conv", int(middle / 4), middle)
        yield from conv_with_bias(f"{name}.se.conv2.conv", middle, int(middle / 4))
    yield f"{name}.linear_conv.conv.weight", (stage.width, middle, 1, 1)
    yield from norm(f"{name}.linear_conv.bn", stage.width)


def published_entries(arch: Arch) -> Entries:
    residual = arch.family == "residual"
    stem = ("conv1", "bn1") if residual else ("conv1.conv", "conv1.bn")
    channels, kernel = arch.stem.width, arch.stem.kernel_size
    yield f"backbone.{stem[0]}.weight", (channels, 3, kernel, kernel)
    yield from norm(f"backbone.{stem[1]}", channels)
    number = 0
    for index, stage in enumerate(arch.stages):
        for block in range(stage.depth):
            number += 1
            if residual:
                name = f"backbone.layer{index + 1}.{block}"
                yield from residual_block(name, stage, channels, first=block == 0)
            else:
                yield from inverted_block(f"backbone.layer{number}", stage, channels)
            channels = stage.width
    for index, deconv in enumerate(arch.head):
        kernel = deconv.kernel_size
        shape = (channels, deconv.width // deconv.groups, kernel, kernel)
        yield f"head.deconv_layers.{3 * index}.weight", shape
        yield from norm(f"head.deconv_layers.{3 * index + 1}", deconv.width)
        channels = deconv.width
    yield from conv_with_bias("head.final_layer", arch.num_keypoints, channels)


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return reference_state()


@pytest.mark.parametrize("name", FAMILIES)
def test_names_shapes_and_types_are_those_of_the_released_checkpoint(name: str) -> None:
    state = published_state(PoseNet(released(name)))
    found = {
        key: (tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
        for key, tensor in state.items()
    }
    assert list(found.items()) == list(read_keys(name).items())
    assert list(without_counterpart(released(name))) == []


@pytest.mark.parametrize("name", FAMILIES)
def test_the_names_written_down_here_are_those_of_the_released_checkpoint(name: str) -> None:
    expected = [(key, shape) for key, (shape, _) in read_keys(name).items()]
    assert list(published_entries(released(name))) == expected


@torch.no_grad()
def test_the_released_network_computes_what_the_published_code_computes(
    state: dict[str, Tensor],
) -> None:
    network = from_published({"state_dict": state, "meta": {}}, released("s_vipnas_res50"), "file")
    features: list[Tensor] = []
    network.layers["stage4_block3"].register_forward_hook(lambda *call: features.append(call[2]))
    heatmaps = network(reference_images())
    reference = read_reference()
    for wanted in (reference["heatmaps"], reference["heatmaps_float64"]):
        assert (heatmaps - wanted).abs().max() <= 1e-4 * wanted.abs().max()
    (wanted_features,) = reference["features"]
    assert features[0].shape == wanted_features["shape"]
    assert features[0].mean().item() == pytest.approx(wanted_features["mean"], rel=1e-4)
    assert features[0].std().item() == pytest.approx(wanted_features["std"], rel=1e-4)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", FAMILIES)
def test_random_networks_go_there_and_back_bit_for_bit(name: str, seed: int) -> None:
    space = read_space(find_shipped("search_spaces", name))
    network = fill(PoseNet(space.sample(random.Random(seed)), initialise=False), seed)
    state = published_state(network)
    entries = [(key, tuple(tensor.shape)) for key, tensor in state.items()]
    assert entries == list(published_entries(network.arch))
    assert same(from_published(state, network.arch, "memory"), network)


@pytest.mark.parametrize("family", ["residual", "inverted_residual"])
def test_a_file_goes_there_and_back_bit_for_bit(
    family: Literal["residual", "inverted_residual"], tmp_path: Path
) -> None:
    network = fill(PoseNet(small_arch(family)), seed=1)
    save_published(tmp_path / "new" / "weights.pth", network, header_of_arch(network.arch))
    checkpoint = torch.load(tmp_path / "new" / "weights.pth", weights_only=True)
    assert header_in(checkpoint, "weights.pth") == header_of_arch(network.arch)
    back = from_published(checkpoint, network.arch, "weights.pth")
    assert same(back, network)
    assert not back.training


def test_every_wrapping_of_the_same_weights_is_accepted() -> None:
    arch = small_arch()
    network = fill(PoseNet(arch), seed=2)
    bare = published_state(network)
    parallel = {f"module.{name}": tensor for name, tensor in bare.items()}
    old = {name.replace("head.", "keypoint_head."): tensor for name, tensor in bare.items()}
    means = {"data_preprocessor.mean": torch.zeros(3, 1, 1)}
    # Whole numbers to 1,000 are exact in 16 bits as well.
    half = {name: t.half() if t.is_floating_point() else t for name, t in bare.items()}
    for state in (bare, parallel, old, {**bare, **means}, half):
        for checkpoint in (state, {"state_dict": state, "meta": {}, "optimizer": {"lr": 1}}):
            assert is_published(checkpoint)
            assert same(from_published(checkpoint, arch, "file"), network)


def test_numpy_arrays_beside_the_weights_are_read_safely() -> None:
    """As mmpose saves them, with numpy 2 and with numpy 1, whose module has another name."""
    meta = {"sigmas": np.array([0.1, 0.2]), "colours": np.zeros((2, 3), np.uint8)}
    written = io.BytesIO()
    torch.save({"state_dict": {"backbone.x": torch.ones(2)}, "meta": meta}, written)
    with pytest.raises(Exception, match="weights_only"):
        torch.load(io.BytesIO(written.getvalue()), weights_only=True)
    for core in (b"numpy._core.multiarray", b"numpy.core.multiarray"):
        renamed = io.BytesIO()
        with zipfile.ZipFile(written) as old, zipfile.ZipFile(renamed, "w") as new:
            for name in old.namelist():
                new.writestr(name, old.read(name).replace(b"numpy._core.multiarray", core))
        assert core in renamed.getvalue()
        with torch.serialization.safe_globals(NUMPY_ARRAYS):
            checkpoint = torch.load(io.BytesIO(renamed.getvalue()), weights_only=True)
        assert checkpoint["meta"]["sigmas"].tolist() == [0.1, 0.2]
        assert is_published(checkpoint)


def error_of(checkpoint: object, arch: Arch) -> str:
    with pytest.raises(ValueError) as raised:
        from_published(checkpoint, arch, "weights.pth")
    message = str(raised.value)
    assert message.startswith("weights.pth: expected ")
    assert "\n" not in message
    return message


def test_a_tensor_that_is_missing_unexpected_or_misshaped_is_named() -> None:
    arch = small_arch()
    good = published_state(PoseNet(arch))
    name = "backbone.layer2.1.conv2.weight"
    missing = {key: tensor for key, tensor in good.items() if key != name}
    assert error_of(missing, arch).endswith(f"of this architecture, got missing: {name}")
    extra = {**good, "backbone.layer9.0.conv1.weight": torch.zeros(1)}
    assert error_of(extra, arch).endswith("unexpected: backbone.layer9.0.conv1.weight")
    misshaped = {**good, name: torch.zeros(24, 6, 5, 5)}
    wrong = "(expected [24, 6, 3, 3] of floats, got [24, 6, 5, 5] of floats)"
    assert error_of(misshaped, arch).endswith(f"of another shape: {name} {wrong}")
    whole = {**good, name: torch.zeros(24, 6, 3, 3, dtype=torch.int8)}
    assert "got [24, 6, 3, 3] of integers)" in error_of(whole, arch)
    for tensor, kind in (
        (torch.zeros(24, 6, 3, 3, device="meta"), "no values (meta)"),
        (torch.zeros(24, 6, 3, 3).to_sparse(), "sparse values"),
    ):
        assert f"got [24, 6, 3, 3] of {kind})" in error_of({**good, name: tensor}, arch)
    # The old name of the head beside the new one is no second copy of it.
    doubled = {**good, "keypoint_head.final_layer.bias": torch.zeros(5)}
    assert error_of(doubled, arch).endswith("unexpected: keypoint_head.final_layer.bias")


def test_a_file_of_another_arch_is_refused() -> None:
    arch = small_arch()
    deeper = replace(arch, stages=(arch.stages[0], replace(arch.stages[1], depth=3)))
    message = error_of(published_state(PoseNet(deeper)), arch)
    assert "unexpected: backbone.layer2.2.conv1.weight" in message
    assert message.endswith(" more")
    other_family = published_state(PoseNet(small_arch("inverted_residual")))
    message = error_of(other_family, arch)
    assert "missing: backbone.conv1.weight" in message
    assert "unexpected: backbone.conv1.conv.weight" in message


@pytest.mark.parametrize(
    "checkpoint", [None, 3, [torch.ones(1)], {}, {"state_dict": 1}, {"format": "vipnas"}]
)
def test_what_holds_no_weights_is_refused(checkpoint: object) -> None:
    assert not is_published(checkpoint)
    assert "got no tensors by name" in error_of(checkpoint, small_arch())


def with_stage(arch: Arch, number: int, **changes: Any) -> Arch:
    stages = list(arch.stages)
    stages[number] = replace(stages[number], **changes)
    return replace(arch, stages=tuple(stages))


def test_what_the_published_code_cannot_build_is_said() -> None:
    residual, inverted = (
        replace(small_arch(family), input_hw=(192, 192))
        for family in ("residual", "inverted_residual")
    )
    assert list(without_counterpart(residual)) == list(without_counterpart(inverted)) == []
    cases = {
        "stem.max_pool": replace(residual, stem=replace(residual.stem, max_pool=False)),
        "stages: expected at most 4": replace(
            residual, stages=residual.stages + residual.stages[1:] * 3
        ),
        "activation": replace(residual, stem=replace(residual.stem, activation="hardswish")),
        "stages[0].expand_ratio": with_stage(residual, 0, expand_ratio=2),
        # The published code projects only where the shape changes; we always do.
        "stages[0].width": with_stage(residual, 0, width=8),
        "stages[1].stride: expected 1 or 2": with_stage(inverted, 1, stride=3),
        "stages[1].expand_ratio: expected above 1": with_stage(inverted, 1, expand_ratio=1),
    }
    for place, arch in cases.items():
        (line,) = without_counterpart(arch)
        assert line.startswith(place)
        network = fill(PoseNet(arch), seed=4)  # the format holds its weights all the same
        assert same(from_published(published_state(network), arch, "memory"), network)
    pooled = replace(inverted, stem=replace(inverted.stem, max_pool=True))
    (line,) = without_counterpart(pooled)
    assert line == "stem.max_pool: expected False in this family, got True"
