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

    from vipnas.deploy.model import PoseModel
    from vipnas.evaluation.protocols import Score
    from vipnas.pipeline.experiment import Experiment
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


def worker_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--workers", type=int, help="Ray workers (default: this process, no Ray)")
    command.add_argument("--gpus-per-worker", type=float, help="a part lets them share one")
    command.add_argument("--ray-address", help="a cluster's, or auto (default: this machine only)")


def model_arguments(command: argparse.ArgumentParser) -> None:
    """MODEL, and what `model_of` needs to open it."""
    command.add_argument(
        "model",
        type=Path,
        metavar="MODEL",
        help="model file, supernet, published checkpoint (.pth) or exported file",
    )
    command.add_argument(
        "--arch",
        help="arch JSON, a file or a shipped name: of a published checkpoint, or the subnet to take"
        " of a supernet (default: the largest)",
    )
    calibration = command.add_argument_group("for a supernet")
    calibration.add_argument(
        "--experiment",
        metavar="FILE",
        help="experiment YAML, a file or a shipped name: batch norm is measured on its training"
        " crops",
    )
    calibration.add_argument(
        "--data-root", type=Path, default=Path(), help="dataset root (default: this folder)"
    )
    facts = command.add_argument_group("for a file that cannot say it")
    facts.add_argument("--codec", choices=("quarter", "dark", "udp"), help="how heatmaps are read")
    facts.add_argument("--sigma-px", type=float, help="sigma of the codec in heatmap pixels")
    facts.add_argument("--skeleton", help="shipped name or YAML file")


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
    return Experiment.open(
        options.experiment,
        options.output,
        options.data_root,
        _device(options),
        options.skip_bad_images,
    )


@contextmanager
def open_with_others(
    options: argparse.Namespace, check: Callable[[Experiment], object] | None = None
) -> Iterator[Experiment]:
    """The experiment in each of the processes that torchrun started. The first alone prints, and
    reads the data before the others do: they may have to be drawn, which takes minutes, so that
    what can be found wrong without them is for `check`, which comes first."""
    from vipnas.training.distributed import joined

    with joined(_device(options)) as processes, ExitStack() as stack:
        if not processes.is_first:
            stack.enter_context(redirect_stdout(stack.enter_context(open(os.devnull, "w"))))
        experiment = replace(open_experiment(options, processes.number), processes=processes)
        experiment.codec  # noqa: B018 (space and skeleton)
        if check is not None:
            check(experiment)
        with processes.first_then_others():
            experiment.training_crops  # noqa: B018
        yield experiment


def ray_settings(options: argparse.Namespace) -> RaySettings | None:
    """Of --workers and its companions; None for the work in this process."""
    from vipnas.search.parallel import RaySettings
    from vipnas.training.distributed import device_name

    if options.workers is None:
        for name in ("gpus_per_worker", "ray_address"):
            if getattr(options, name) is not None:
                raise ValueError(f"--{name.replace('_', '-')}: needs --workers")
        return None
    gpus = options.gpus_per_worker
    if gpus is None:
        gpus = float(device_name(options.device).startswith("cuda"))
    return RaySettings(options.workers, gpus, address=options.ray_address)


def model_of(options: argparse.Namespace) -> PoseModel:
    """The model of `model_arguments`."""
    from vipnas.deploy.model import Facts, load
    from vipnas.pipeline.models import calibration_of

    experiment = calibrating_experiment(options)
    return load(
        options.model,
        options.arch,
        calibration=None if experiment is None else calibration_of(experiment),
        facts=Facts(options.codec, options.sigma_px, options.skeleton),
    )


def calibrating_experiment(options: argparse.Namespace) -> Experiment | None:
    """That of --experiment, opened on the CPU."""
    import torch

    from vipnas.pipeline.experiment import Experiment

    if options.experiment is None:
        return None
    return Experiment.open(options.experiment, None, options.data_root, torch.device("cpu"))


def _device(options: argparse.Namespace) -> torch.device:
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
