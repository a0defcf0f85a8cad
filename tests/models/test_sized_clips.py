"""Clips whose frames have input sizes of their own, over random archs: slice = extracted = reloaded
from JSON, bit for bit; costs are what PyTorch counts."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from networks_fixture import randomise_batch_norm
from spaces_fixture import INVERTED_YAML, space_from
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from video_fixture import all_fusions

from vipnas.arch.clip import VideoArch
from vipnas.config.clip import Exposure
from vipnas.data.codecs.heatmap import HeatmapCodec
from vipnas.data.crops.clip_sizes import ClipSizes
from vipnas.data.crops.crops import normalise
from vipnas.data.crops.loader import Batch
from vipnas.files import parse_json
from vipnas.models.clipnet import FollowUpNet, VideoNet, build_video_net, extract_video
from vipnas.models.counting import mean_cost
from vipnas.models.posenet import extract
from vipnas.models.propagation import propagate
from vipnas.quantities import Cost
from vipnas.shipped import find_shipped
from vipnas.space.clip import VideoSpace
from vipnas.space.image import SearchSpace
from vipnas.space.yaml import read_space
from vipnas.training.step import ClipTask

T = 3
SIZES = {
    "tiny": ((32, 24), (64, 48)),
    "inverted": ((16, 16), (32, 32)),
    "quick_follow": ((32, 24), (64, 48), (96, 72)),
    "lat_vipnas_square": None,  # its own four
}
HUNDRED = [pytest.param(name, 100, marks=pytest.mark.slow) for name in SIZES]


def space_named(name: str, directory: Path) -> SearchSpace:
    if name == "inverted":
        space = space_from(INVERTED_YAML, directory, name)
    else:
        space = read_space(find_shipped("search_spaces", name))
    return space.with_facts(SIZES[name])


def clips_of(space: SearchSpace, count: int) -> Iterator[VideoArch]:
    """Clips of random key frames; every size, fusion and `warp` is among a hundred of them."""
    fusions, rng = (None, *all_fusions(space)), random.Random(0)
    frames = set()
    for _ in range(count):
        clips = VideoSpace(space.sample(rng), space, fusions, T, warp=True)
        clip = clips.sample(rng)
        frames |= {own and (own.arch.input_hw, own.fusion) for own in clip.follow_ups}
        yield clip
    options = {(size, fusion) for size in space.inputs_hw for fusion in fusions}
    assert count < 100 or frames == {None, *options}


def batch_of(space: SearchSpace) -> Batch:
    """Noise of the largest size, with small moves and turns."""
    generator = torch.Generator().manual_seed(1)
    shape = (2, T + 1, 3, *space.input_hw)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    joints = torch.ones(2, T + 1, space.num_keypoints, 3)
    warps = torch.eye(2, 3) + 0.1 * torch.randn(2, T, 2, 3, generator=generator)
    return images, joints, warps


def sliced(
    supernet: FollowUpNet, batch: Batch, codec: HeatmapCodec, arch: VideoArch
) -> list[Tensor]:
    """The heatmaps of all frames, as a training step of the supernet computes them."""
    key_frame = extract(supernet.posenet, arch.key_frame)
    task = ClipTask(lambda images, _: key_frame(images), [supernet] * T, codec, Exposure())
    prepared = task.prepare(0, batch)(arch)
    assert prepared.before is not None
    return [prepared.before, *propagate(task.run_of(arch), prepared.frames, prepared.before)]


def alone(video: VideoNet, batch: Batch, codec: HeatmapCodec) -> list[Tensor]:
    """Those of stand-alone networks, each on crops of its size."""
    images, _, warps = batch
    sizes = ClipSizes(codec, video.arch)
    frames = [
        sizes.frame(n, normalise(sizes.images(n, images[:, n])), warps[:, n - 1] if n else None)
        for n in range(T + 1)
    ]
    return list(propagate(video.run_frame, frames))


@torch.no_grad()
@pytest.mark.parametrize(("name", "count"), [("tiny", 2), *HUNDRED])
def test_slice_equals_extracted_equals_reloaded(name: str, count: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    space = space_named(name, tmp_path)
    supernet = FollowUpNet(space.max_arch(), all_fusions(space)).eval()
    randomise_batch_norm(supernet, seed=0)
    codec = HeatmapCodec(space.input_hw, space.max_arch().heatmap_hw)
    batch = batch_of(space)
    for arch in clips_of(space, count):
        expected = sliced(supernet, batch, codec, arch)
        extracted = extract_video(extract(supernet.posenet, arch.key_frame), supernet, arch)
        parsed = parse_json(VideoArch, arch.to_json(), "test")
        reloaded = build_video_net(parsed, initialise=False).eval()
        reloaded.load_state_dict(extracted.state_dict())
        for video in (extracted, reloaded):
            found = alone(video, batch, codec)
            assert all(map(torch.equal, found, expected)), arch
        sizes = [arch.sized_as(distance).heatmap_hw for distance in range(T + 1)]
        assert [tuple(heatmaps.shape[2:]) for heatmaps in expected] == sizes
        assert all(heatmaps.std() > 1e-3 for heatmaps in expected)


def counted_by_torch(arch: VideoArch) -> Cost:
    """MACs of a mean frame, and parameters of all distinct networks."""
    with torch.device("meta"):
        video = build_video_net(arch).eval()
        runs: list[tuple[nn.Module, list[Tensor]]] = []
        for own, network in zip(arch.follow_ups, video.follow_ups, strict=True):
            if own is not None and network is not None:
                shapes = (3, *own.arch.input_hw), (own.arch.num_keypoints, *own.arch.heatmap_hw)
                runs.append((network, [torch.empty(1, *shape) for shape in shapes]))
        runs.append((video.key_frame, [torch.empty(1, 3, *arch.key_frame.input_hw)]))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        for run, inputs in runs:
            run(*inputs)
    networks = dict(zip(arch.follow_ups, video.follow_ups, strict=True)).values()  # distinct ones
    params = sum(
        parameter.numel()
        for network in (video.key_frame, *networks)
        if network is not None
        for parameter in network.parameters()
    )
    return Cost(round(counter.get_total_flops() / 2 / (T + 1)), params)


@pytest.mark.parametrize(("name", "count"), HUNDRED)
def test_clips_cost_what_torch_counts(name: str, count: int, tmp_path: Path) -> None:
    for arch in clips_of(space_named(name, tmp_path), count):
        assert mean_cost(arch) == counted_by_torch(arch)
