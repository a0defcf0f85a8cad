"""Whole training steps of a supernet on a GPU: rows of the table of `tools.benchmarks.supernet`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from statistics import median
from typing import NamedTuple

import torch

from tools.benchmarks.interleaved import Setting
from vipnas.arch.image import Arch
from vipnas.config.schedule import Schedule
from vipnas.config.training import Sampling
from vipnas.data.codecs.heatmap import HeatmapCodec
from vipnas.data.crops.loader import Batch
from vipnas.models.counting import count_cost
from vipnas.models.posenet import PoseNet
from vipnas.space.image import SearchSpace
from vipnas.training.compute import make_forward
from vipnas.training.loop import Backward, Training
from vipnas.training.sampling import SampledSubnet, SubnetSampler
from vipnas.training.step import ImageTask, Task, network_backward, supernet_backward

STEPS_A_TURN = 2  # each with architectures of its own


def training_rows(space: SearchSpace, setting: Setting) -> Iterator[str]:
    """Whole training steps on a GPU, the images there already: normalising, targets, losses,
    clipping, optimiser, averages."""
    codec = HeatmapCodec(space.input_hw, space.max_arch().heatmap_hw)
    sampler = SubnetSampler(space, 0, 1, count_cost, Sampling("sandwich", 2))

    def members_of(step: int) -> Sequence[SampledSubnet[Arch]]:
        return sampler(step % STEPS_A_TURN)

    for name in ("sandwich of 4", "largest alone"):
        supernet = setting.supernet(space)
        forward = make_forward(supernet, setting.compute)
        if name == "largest alone":
            backward = network_backward(ImageTask(forward, codec))
        else:
            task: Task[Arch] = ImageTask(forward, codec)
            backward = supernet_backward(task, members_of)
        found = _trained(supernet, backward, space, setting)
        yield (
            f"| {space.name} | {'x'.join(map(str, space.input_hw))} | training, {name}:"
            f" {setting.batch_size / found.step_s:.0f} images/s, {found.gpu_gib:.1f} GiB,"
            f" GPU busy {found.gpu_s / found.step_s:.0%} | |"
            f" {found.step_s * 1e3:.2f} | | | {found.gpu_s * 1e3:.2f} | | |"
        )


class Trained(NamedTuple):
    """Of one step: seconds, seconds of the GPU, and the most memory that tensors took on it."""

    step_s: float
    gpu_s: float
    gpu_gib: float


def _trained(network: PoseNet, backward: Backward, space: SearchSpace, setting: Setting) -> Trained:
    generator = torch.Generator().manual_seed(0)
    height, width = space.input_hw
    images = torch.randint(
        0, 256, (setting.batch_size, 3, height, width), dtype=torch.uint8, generator=generator
    )
    keypoints = torch.rand(setting.batch_size, space.num_keypoints, 3, generator=generator)
    keypoints *= torch.tensor([width, height, 1.0])  # all of them visible
    batch: Batch = (
        images.to(setting.device, memory_format=torch.channels_last),
        keypoints.to(setting.device),
    )
    turns = max(3, setting.repeats // 3)
    schedule = Schedule(epochs=1, batch_size=setting.batch_size, learning_rate=1e-3, clip_norm=1.0)
    num_steps = STEPS_A_TURN * (turns + 3)  # one to warm up, one more, one for the profiler
    training = Training(network, schedule, num_steps, setting.compute)

    def run() -> None:
        training.run(lambda first, left: itertools.repeat(batch, STEPS_A_TURN), backward)

    run()
    torch.cuda.reset_peak_memory_stats(setting.device)
    run()
    seconds = []
    for _ in range(turns):
        started = setting.now()
        run()
        seconds.append((setting.now() - started) / STEPS_A_TURN)
    gpu_s = setting.gpu_seconds(run) / STEPS_A_TURN
    peak = torch.cuda.max_memory_allocated(setting.device)
    return Trained(median(seconds), gpu_s, peak / 2**30)
