"""One of several processes that train together; `test_distributed.py` starts them.

    python distributed_worker.py DIRECTORY CASE

Trains a few steps in double precision, so that what is left of a difference is not rounding, and
writes what came of it to DIRECTORY/RANK.pt.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from training_fixture import batch_of, codec_of, sampler_of, supernet_of  # noqa: E402

from vipnas.arch.image import Arch
from vipnas.config.training import Compute, Schedule
from vipnas.data.crops.loader import Batch
from vipnas.shipped import find_shipped
from vipnas.space.yaml import read_space
from vipnas.training.compute import make_forward
from vipnas.training.distributed import ALONE, Disagreement, Processes, joined
from vipnas.training.failure import FailureFile
from vipnas.training.loop import Training
from vipnas.training.step import ImageTask, network_backward, supernet_backward

NUM_STEPS = 4
ROWS = 8
SCHEDULE = Schedule(
    epochs=1, batch_size=ROWS, learning_rate=1e-3, warmup_steps=2, weight_decay=0.01, clip_norm=1.0
)
TINY = read_space(find_shipped("search_spaces", "tiny"))


def joint_batch(step: int) -> Batch:
    parts = [batch_of(TINY, ROWS * step + number) for number in range(ROWS // 2)]
    return torch.cat([images for images, _ in parts]), torch.cat([points for _, points in parts])


def train_together(case: str, processes: Processes, directory: Path) -> Training:
    """`processes` of one is the training that several are compared with."""
    torch.set_num_threads(1)
    compute = Compute(synchronise_batch_norm=case != "ghost")
    supernet = supernet_of(TINY).double()
    forward = make_forward(supernet, compute, processes)

    def in_double(images: Tensor, arch: Arch | None) -> Tensor:
        return forward(images.double(), arch)

    codec = codec_of(TINY)
    seed = processes.rank if case == "disagree" else 0
    members_of = sampler_of(TINY, seed=seed)
    if case == "retrain":
        backward = network_backward(ImageTask(in_double, codec))
    else:
        backward = supernet_backward(ImageTask(in_double, codec), members_of, reduce=processes.mean)
    training = Training(supernet, SCHEDULE, NUM_STEPS, compute, processes)
    if case == "start" and processes.rank == 1:
        training.step = 1

    def batches(first_step: int, num_steps: int) -> Iterator[Batch]:
        for step in range(first_step, first_step + num_steps):
            images, keypoints = joint_batch(step)
            if case == "not finite" and step == 2:
                keypoints[5, 0] = torch.tensor([torch.nan, 1.0, 2.0])
            share = processes.share(ROWS)
            yield images[share], keypoints[share]

    training.run(batches, backward, (), FailureFile(directory / "failure.pt", {"stage": "test"}))
    return training


def main() -> int:
    directory, case = Path(sys.argv[1]), sys.argv[2]
    with joined(torch.device("cpu")) as processes:
        try:
            state = train_together(case, processes, directory).state()
        except (Disagreement, FloatingPointError) as error:
            print(error, file=sys.stderr)
            return 1
    assert processes != ALONE
    torch.save(state, directory / f"{os.environ['RANK']}.pt")
    return 0


if __name__ == "__main__":
    sys.exit(main())
