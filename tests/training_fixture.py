"""Batches that are a function of their step, and a training on them, for the tests of training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from model_fixture import save_network

from vipnas.arch.image import Arch
from vipnas.config.schedule import Schedule
from vipnas.config.training import Sampling
from vipnas.data.codecs.heatmap import HeatmapCodec
from vipnas.data.crops.loader import Batch
from vipnas.models.counting import count_cost
from vipnas.models.posenet import PoseNet
from vipnas.space.image import SearchSpace
from vipnas.training.callbacks.keeping import BestNetwork, CheckpointFile
from vipnas.training.callbacks.monitor import Monitor
from vipnas.training.callbacks.probes import Probes
from vipnas.training.loop import Backward, Training
from vipnas.training.sampling import SubnetSampler
from vipnas.training.step import ImageTask, supernet_backward

BATCH_SIZE = 2


def batch_of(space: SearchSpace, step: int) -> Batch:
    """Noise with joints somewhere in it, every fifth of them not labelled."""
    generator = torch.Generator().manual_seed(step)
    height, width = space.input_hw
    shape = (BATCH_SIZE, 3, height, width)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    keypoints = torch.rand(BATCH_SIZE, 17, 3, generator=generator)
    keypoints *= torch.tensor([width, height, 1.0])
    keypoints[..., 2] = 2.0
    keypoints[:, ::5, 2] = 0.0
    return images, keypoints


def codec_of(space: SearchSpace) -> HeatmapCodec:
    return HeatmapCodec(space.input_hw, space.max_arch().heatmap_hw, 1.0)


def supernet_of(space: SearchSpace, seed: int = 0) -> PoseNet:
    """With weights larger than the published initialisation, so that gradients are no noise."""
    torch.manual_seed(seed)
    network = PoseNet(space.max_arch())
    for parameter in network.parameters():
        if parameter.dim() == 4:
            torch.nn.init.normal_(parameter, 0, parameter[0].numel() ** -0.5)
    return network


def sampler_of(
    space: SearchSpace, num_random: int = 1, seed: int = 0, **sampling: Any
) -> SubnetSampler:
    """The sandwich, or what else is asked for, of epochs of ten steps."""
    settings = Sampling(**{"strategy": "sandwich", "num_random": num_random, **sampling})
    return SubnetSampler(space, seed, 10, count_cost, settings)


def train(
    space: SearchSpace,
    schedule: Schedule,
    num_steps: int,
    directory: Path,
    stop_after: int | None = None,
    backward: Backward | None = None,
    checkpoint: CheckpointFile | None = None,
    probes: Probes[Arch] | None = None,
) -> Training:
    """Train a supernet, from the checkpoint in the directory if there is one."""
    supernet = supernet_of(space)
    backward = backward or supernet_backward(
        ImageTask(supernet, codec_of(space)), sampler_of(space)
    )
    training = Training(supernet, schedule, num_steps)
    checkpoint = checkpoint or CheckpointFile(directory / "checkpoint.pt", {"seed": 0}, 1e9)
    checkpoint.resume(training)

    def batches(first: int, count: int) -> Iterator[Batch]:
        for step in range(first, min(first + count, stop_after or first + count)):
            yield batch_of(space, step)

    best = BestNetwork(directory / "best.safetensors", "AP", training.step, save_network)
    with Monitor(directory, training, best, None, probes) as monitor:
        training.run(batches, backward, (monitor, checkpoint))
    if stop_after:
        checkpoint.save(training)
    return training
