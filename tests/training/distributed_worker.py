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
from video_fixture import video_space_of, video_supernet  # noqa: E402

from vipnas.arch.clip import FollowUp, VideoArch
from vipnas.arch.image import Arch
from vipnas.config.clip import Exposure
from vipnas.config.schedule import Schedule
from vipnas.config.training import Compute, Sampling
from vipnas.data.crops.loader import Batch
from vipnas.models.clipnet import FollowUpNet
from vipnas.models.counting import mean_cost
from vipnas.models.posenet import PoseNet
from vipnas.shipped import find_shipped
from vipnas.space.yaml import read_space
from vipnas.training.compute import make_forward
from vipnas.training.distributed import ALONE, Disagreement, Processes, joined
from vipnas.training.failure import Backward, FailureFile
from vipnas.training.loop import Training
from vipnas.training.sampling import SubnetSampler
from vipnas.training.step import ClipTask, ImageTask, Task, network_backward, supernet_backward

NUM_STEPS = 4
ROWS = 8
SCHEDULE = Schedule(
    epochs=1, batch_size=ROWS, learning_rate=1e-3, warmup_steps=2, weight_decay=0.01, clip_norm=1.0
)
TINY = read_space(find_shipped("search_spaces", "tiny"))


def joint_batch(step: int) -> Batch:
    parts = [batch_of(TINY, ROWS * step + number) for number in range(ROWS // 2)]
    return torch.cat([images for images, _ in parts]), torch.cat([points for _, points in parts])


def joint_clips(step: int) -> Batch:
    """Clips of a key frame and one follow-up frame."""
    pairs = [joint_batch(2 * step + number) for number in range(2)]
    images, keypoints = (torch.stack(frames, 1) for frames in zip(*pairs, strict=True))
    warps = torch.eye(2, 3).expand(len(images), 1, 2, 3) + 0.1 * keypoints[:, 1:, :2, :] / 100
    return images, keypoints, warps


def clip_backward(processes: Processes, network: FollowUpNet, key_frame: PoseNet) -> Backward:
    """Teacher forcing with noise in the first steps, then the network's own heatmaps."""
    key_frame = key_frame.double().eval()
    forward = make_forward(network, Compute(), processes)

    def in_double(images: Tensor, before: Tensor | None, arch: FollowUp | None) -> Tensor:
        return forward(images.double(), None if before is None else before.double(), arch)

    task: Task[VideoArch] = ClipTask(
        lambda images, arch: key_frame(images.double(), arch),
        [in_double],
        codec_of(TINY),
        Exposure(teacher_forcing_steps=2, teacher_forcing_noise_px=2.0),
        processes,
    )
    space = video_space_of(TINY, 1)
    subnets_of = SubnetSampler(space, "clip-0", 100.0, mean_cost, Sampling("sandwich", 1))
    return supernet_backward(task, subnets_of, reduce=processes.mean)


def train_together(case: str, processes: Processes, directory: Path) -> Training:
    """`processes` of one is the training that several are compared with."""
    torch.set_num_threads(1)
    compute = Compute(synchronise_batch_norm=case != "ghost")
    supernet: PoseNet | FollowUpNet = supernet_of(TINY).double()
    forward = make_forward(supernet, compute, processes)

    def in_double(images: Tensor, arch: Arch | None) -> Tensor:
        return forward(images.double(), arch)

    codec = codec_of(TINY)
    seed = processes.rank if case == "disagree" else 0
    members_of = sampler_of(TINY, seed=seed)
    if case == "clips":
        torch.manual_seed(0)
        key_frame, follow_up = video_supernet(TINY)
        supernet = follow_up.double()
        backward = clip_backward(processes, follow_up, key_frame)
    elif case in ("retrain", "taught"):
        backward = network_backward(ImageTask(in_double, codec, 0.5 * (case == "taught")))
    else:
        backward = supernet_backward(ImageTask(in_double, codec), members_of, reduce=processes.mean)
    training = Training(supernet, SCHEDULE, NUM_STEPS, compute, processes)
    if case == "start" and processes.rank == 1:
        training.step = 1

    def batches(first_step: int, num_steps: int) -> Iterator[Batch]:
        for step in range(first_step, first_step + num_steps):
            batch = joint_clips(step) if case == "clips" else joint_batch(step)
            if case == "not finite" and step == 2:
                batch[1][5, 0] = torch.tensor([torch.nan, 1.0, 2.0])
            if case == "taught":  # the teacher finds the joints of another step
                batch = *batch, joint_batch(step + NUM_STEPS)[1] * torch.tensor([1, 1, 0.25])
            share = processes.share(ROWS)
            yield tuple(part[share] for part in batch)

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
