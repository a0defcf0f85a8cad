"""What the commands share: their arguments, and opening what these name."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import torch

    from vipnas.evaluation.protocols import Score
    from vipnas.models.posenet import PoseNet
    from vipnas.pipeline.experiment import Experiment
    from vipnas.pipeline.run_folder import RunFolder
    from vipnas.search.parallel import RaySettings


Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def experiment_command(commands: Commands, name: str, text: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text)
    command.add_argument("experiment", help="experiment YAML, a file or a shipped name")
    command.add_argument("--output", type=Path, help="folder of the run (default: runs/NAME)")
    command.add_argument(
        "--data-root", type=Path, default=Path(), help="folder of the data's paths"
    )
    command.add_argument("--device", help="torch device (default: cuda where there is one)")
    command.add_argument("--skip-bad-images", action="store_true", help="log them and go on")
    return command


def count(text: str) -> int:
    """The type of arguments that say how many."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text}, allowed are whole numbers from 1")
    return int(text)


def name_argument(command: argparse.ArgumentParser) -> None:
    command.add_argument("--name", help="name of the search (default: the unnamed one)")


def worker_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--workers", type=int, help="Ray workers (default: this process, no Ray)")
    command.add_argument("--gpus-per-worker", type=float, help="a part lets them share one")
    command.add_argument("--ray-address", help="a cluster's, or auto (default: this machine only)")


def weights_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--weights", type=Path, required=True, help="checkpoint of a network")
    command.add_argument("--arch", help="arch JSON, a file or a shipped name")
    command.add_argument(
        "-o", "--output", type=Path, required=True, help="file (predict: folder) to write"
    )


def open_experiment(options: argparse.Namespace, allowed_processes: int = 1) -> Experiment:
    """The experiment of a command. Imports torch, which `vipnas --help` does without."""
    from vipnas.memory import keep_freed_memory
    from vipnas.pipeline.experiment import Experiment
    from vipnas.training.distributed import number_of_processes

    if (number := number_of_processes()) > allowed_processes:
        raise ValueError(
            f"found {number} processes (WORLD_SIZE), allowed is 1: only train-supernet and retrain"
            " can share their work"
        )
    keep_freed_memory()
    experiment = Experiment.open(
        options.experiment,
        options.output,
        options.data_root,
        open_device(options),
        options.skip_bad_images,
        getattr(options, "name", None),
    )
    if not getattr(options, "json", False):
        for what, path in experiment.files.items():
            print(f"{what}: {path}")
    return experiment


@contextmanager
def open_with_others(
    options: argparse.Namespace,
    stage: Callable[[RunFolder], Path],
    check: Callable[[Experiment], object] | None = None,
) -> Iterator[Experiment]:
    """The experiment in each of the processes that torchrun started. The first alone prints, and
    reads the data before the others do: they may have to be drawn, which takes minutes, so that
    what can be found wrong without them is for `check`, which comes first."""
    from vipnas.training.compute import check_compute

    """The experiment in each of the processes that torchrun started. The first alone prints, locks
    the folder of the stage, and reads the data before the others do: they may have to be drawn,
    which takes minutes, so that what can be found wrong without them is for `check`, which comes
    first."""
    from vipnas.pipeline.work import at_work
    from vipnas.training.distributed import joined

    with joined(open_device(options)) as processes, ExitStack() as stack:
        if not processes.is_first:
            stack.enter_context(redirect_stdout(stack.enter_context(open(os.devnull, "w"))))
        experiment = replace(open_experiment(options, processes.number), processes=processes)
        experiment.codec  # noqa: B018 (space and skeleton)
        check_compute(experiment.config.compute, experiment.device)
        if check is not None:
            check(experiment)
        stack.enter_context(at_work(experiment, stage(experiment.folder)))
        with processes.first_then_others():
            experiment.training_crops  # noqa: B018
        yield experiment


def ray_settings(options: argparse.Namespace) -> RaySettings | None:
    """Of --workers and its companions; None for the work in this process."""
    import torch

    from vipnas.search.parallel import RaySettings, check_address
    from vipnas.training.distributed import device_name

    if options.workers is None:
        for name in ("gpus_per_worker", "ray_address"):
            if getattr(options, name) is not None:
                raise ValueError(f"--{name.replace('_', '-')}: needs --workers")
        return None
    check_address(options.ray_address)
    gpus = options.gpus_per_worker
    if gpus is None:
        gpus = float(device_name(options.device).startswith("cuda"))
    if options.ray_address is None and gpus > (count := torch.cuda.device_count()):
        raise ValueError(
            f"--gpus-per-worker: expected at most {count}, the GPUs of this machine, got {gpus:g}"
        )
    return RaySettings(options.workers, gpus, address=options.ray_address)


def network_of(options: argparse.Namespace) -> PoseNet:
    """The network of --weights and --arch."""
    from vipnas.arch.io import read_arch
    from vipnas.shipped import find_shipped
    from vipnas.training.checkpoint import inherit, load_weights

    if options.arch is None:
        return load_weights(options.weights)
    arch = read_arch(find_shipped("search_spaces", options.arch, ".json"))
    return inherit(options.weights, arch).eval()


def open_device(options: argparse.Namespace) -> torch.device:
    """What --device says; of several processes each its own GPU."""
    import torch

    from vipnas.training.distributed import device_name

    name = device_name(options.device)
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:  # the latter where torch has no CUDA
        raise ValueError(f"--device {name}: {str(error).splitlines()[0]}") from None
    return torch.device(name)


def print_scores(scores: Mapping[str, Score], as_json: bool) -> None:
    """A line for each protocol, or one JSON document."""
    from dataclasses import asdict

    if as_json:
        print(json.dumps({name: asdict(found) for name, found in scores.items()}))
        return
    for name, found in scores.items():
        print(f"{name}: {found}")
