"""The batch size `auto`: as large as the memory of a GPU allows."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from vipnas.config.schedule import Schedule
from vipnas.errors import UserError, shown
from vipnas.files import read_json, write_atomically
from vipnas.models.posenet import PoseNet
from vipnas.training.compute import make_forward

if TYPE_CHECKING:
    from vipnas.pipeline.experiment import Experiment

SMALLEST, LARGEST, ON_A_CPU = 8, 256, 16
# A step may need this part of the free memory. The rest is for the optimizer and averaged weights.
SHARE = 0.7


def with_batch_size(experiment: Experiment, schedule: Schedule, stage: Path) -> Schedule:
    """Return a schedule whose batch size is a number.

    For `auto` it is that of `batch_size.json` in the folder of the stage, so that a run keeps it.
    Without the file it is chosen, printed and written.

    Raises:
        UserError: If the file holds no batch size, or several processes train with `auto`.
    """
    if schedule.batch_size != "auto" or experiment.processes.number > 1:
        return replace(schedule, batch_size=schedule.batch)
    path = stage / "batch_size.json"
    if path.exists():
        number = read_json(path)
        if not isinstance(number, int) or number < 1:
            raise UserError(str(path), "a batch size", shown(number))
        return replace(schedule, batch_size=number)
    number, reason = _chosen(experiment)
    write_atomically(path, json.dumps(number) + "\n")
    print(f"{stage.name}: batch size {number}, {reason}; {path}")
    return replace(schedule, batch_size=number)


def _chosen(experiment: Experiment) -> tuple[int, str]:
    """Return a batch size, and why."""
    if experiment.device.type != "cuda":
        return ON_A_CPU, "the one for a CPU"
    free, _ = torch.cuda.mem_get_info(experiment.device)
    number = largest_batch_size(bytes_of_step(experiment), SHARE * free, LARGEST)
    return number, f"for {free / 2**30:.1f} GiB of free memory"


def largest_batch_size(
    bytes_of_step: Callable[[int], int | None], most_bytes: float, most: int
) -> int:
    """Return the largest power of two whose step fits; 8 if none does.

    Args:
        bytes_of_step: Returns the peak memory of a step with so many crops; None if it ran out.
        most_bytes: The memory that a step may need.
        most: The largest batch size.
    """
    chosen = size = SMALLEST
    while size <= most:
        needed = bytes_of_step(size)
        if needed is None or needed > most_bytes:
            break
        chosen, size = size, 2 * size
    return chosen


def bytes_of_step(experiment: Experiment) -> Callable[[int], int | None]:
    """Return a function that runs the largest network of the space forwards and backwards."""
    device = experiment.device
    network = PoseNet(experiment.space.max_arch()).to(device).train()
    forward = make_forward(network, replace(experiment.compute, compile=False))

    def measure(count: int) -> int | None:
        images = torch.zeros((count, 3, *experiment.space.input_hw), device=device)
        torch.cuda.reset_peak_memory_stats(device)
        try:
            forward(images, None).square().mean().backward()
        except torch.OutOfMemoryError:
            return None
        finally:
            network.zero_grad(set_to_none=True)
        return torch.cuda.max_memory_allocated(device)

    return measure
