"""Arguments that several commands share, and the objects that they name."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, get_args

from vipnas.arch.codec import CodecName
from vipnas.cli.numbers import finite_number, positive_number
from vipnas.cli.parser import Parser
from vipnas.errors import UserError

if TYPE_CHECKING:
    import torch

    from vipnas.deploy.model import PoseModel
    from vipnas.evaluation.key_frames import KeyFrameUse
    from vipnas.evaluation.protocols import Score
    from vipnas.pipeline.experiment import Experiment
    from vipnas.pipeline.run_folder import RunFolder
    from vipnas.search.ray_cluster import RaySettings


Commands: TypeAlias = "argparse._SubParsersAction[Parser]"


# Former names of splits, and their names today.
RENAMED_SPLITS = {"search": "val"}


def experiment_command(commands: Commands, name: str, text: str) -> argparse.ArgumentParser:
    """Add a command that opens an experiment, with the arguments of `open_experiment`."""
    command = commands.add_parser(name, help=text)
    command.add_argument("experiment", help="experiment: a YAML file or a shipped name")
    run = command.add_argument_group("run and data")
    run.add_argument(
        "--output", type=Path, metavar="DIR", help="folder of the run (default: runs/EXPERIMENT)"
    )
    run.add_argument(
        "--data-root",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="dataset root, to which paths in the experiment are relative (default: .)",
    )
    run.add_argument("--device", help="torch device (default: cuda if available, else cpu)")
    run.add_argument(
        "--skip-bad-images",
        action="store_true",
        help="skip images that cannot be read, with a warning (default: an error)",
    )
    return command


def split_argument(
    command: argparse.ArgumentParser, choices: tuple[str, ...], default: str
) -> None:
    """Add `--split`."""
    command.add_argument(
        "--split",
        type=_split,
        choices=choices,
        default=default,
        help="split of the data (default: %(default)s)",
    )


def _split(text: str) -> str:
    """Refuse the former name of a split, and name the new one."""
    if text in RENAMED_SPLITS:
        hint = f"renamed: use {RENAMED_SPLITS[text]}"
        raise argparse.ArgumentTypeError(f"expected the name of a split, got {text!r} ({hint})")
    return text


def name_argument(command: argparse.ArgumentParser) -> None:
    command.add_argument("--name", help="name of the search (default: the unnamed one)")


def worker_arguments(command: argparse.ArgumentParser) -> None:
    """Add the arguments of `ray_settings`."""
    workers = command.add_argument_group("workers (pip install 'vipnas[cluster]')")
    workers.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="number of Ray workers (default: no Ray, this process only)",
    )
    workers.add_argument(
        "--gpus-per-worker",
        type=finite_number,
        metavar="N",
        help="GPUs per worker; a fraction lets several workers share a GPU (default: 1 if the"
        " device is cuda, else 0)",
    )
    workers.add_argument(
        "--ray-address",
        metavar="ADDRESS",
        help="address of a Ray cluster, or auto (default: start Ray on this machine)",
    )


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
    facts.add_argument("--codec", choices=get_args(CodecName), help="how heatmaps are read")
    facts.add_argument(
        "--sigma-px",
        type=positive_number,
        help="sigma of the codec in heatmap pixels, of simcc in input pixels",
    )
    facts.add_argument("--skeleton", help="shipped name or YAML file")


def open_experiment(options: argparse.Namespace, allowed_processes: int = 1) -> Experiment:
    """Open the experiment of a command.

    Args:
        options: The arguments of `experiment_command`.
        allowed_processes: Number of processes of torchrun that the command supports.

    Raises:
        UserError: If there are more processes, or the experiment cannot be opened.
    """
    # Imported here, as torch takes longer to import than `vipnas --help` may take.
    from vipnas.memory import keep_freed_memory
    from vipnas.pipeline.experiment import Experiment
    from vipnas.training.distributed import number_of_processes

    if (number := number_of_processes()) > allowed_processes:
        hint = "only train-supernet and retrain run in several processes"
        raise UserError("WORLD_SIZE", "1 process", f"{number} processes", hint)
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
    """Open the experiment in every process that torchrun started.

    Only the first process prints and locks the folder of the stage. It also reads the data before
    the others do, as synthetic data may have to be generated, which takes minutes.

    Args:
        options: The arguments of `experiment_command`.
        stage: Returns the folder that the command writes to.
        check: Called before the data are read, for errors that can be found without them.
    """
    from vipnas.pipeline.work import at_work
    from vipnas.training.compute import check_compute
    from vipnas.training.distributed import joined

    with joined(open_device(options)) as processes, ExitStack() as stack:
        if not processes.is_first:
            stack.enter_context(
                redirect_stdout(stack.enter_context(open(os.devnull, "w", encoding="utf-8")))
            )
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
    """Return the settings of `worker_arguments`; None to work in this process."""
    import torch

    from vipnas.search.ray_cluster import RaySettings, check_address
    from vipnas.training.distributed import device_name

    if options.workers is None:
        for name in ("gpus_per_worker", "ray_address"):
            if getattr(options, name) is not None:
                place = f"--{name.replace('_', '-')}"
                raise UserError(place, "--workers with this option", "none")
        return None
    check_address(options.ray_address)
    gpus = options.gpus_per_worker
    if gpus is None:
        gpus = float(device_name(options.device).startswith("cuda"))
    if options.ray_address is None and gpus > (count := torch.cuda.device_count()):
        expected = f"at most {count}, the GPUs of this machine"
        raise UserError("--gpus-per-worker", expected, f"{gpus:g}")
    return RaySettings(options.workers, gpus, address=options.ray_address)


def model_of(options: argparse.Namespace, device: str = "cpu", flip_test: bool = True) -> PoseModel:
    """The model of `model_arguments`."""
    from vipnas.deploy.loading import Facts, load
    from vipnas.pipeline.models import calibration_of

    experiment = calibrating_experiment(options)
    return load(
        options.model,
        options.arch,
        calibration=None if experiment is None else calibration_of(experiment),
        facts=Facts(options.codec, options.sigma_px, options.skeleton),
        device=device,
        flip_test=flip_test,
    )


def calibrating_experiment(options: argparse.Namespace) -> Experiment | None:
    """That of --experiment, opened on the CPU."""
    import torch

    from vipnas.pipeline.experiment import Experiment

    if options.experiment is None:
        return None
    return Experiment.open(options.experiment, None, options.data_root, torch.device("cpu"))


def open_device(options: argparse.Namespace) -> torch.device:
    """Return the device of --device; each of several processes gets its own GPU."""
    import torch

    from vipnas.training.distributed import device_name

    name = device_name(options.device)
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:  # the latter where torch has no CUDA
        reason = str(error).splitlines()[0]
        raise UserError("--device", "a device of this machine", name, reason) from None
    return torch.device(name)


def print_scores(scores: Mapping[str, Score | KeyFrameUse], as_json: bool) -> None:
    """Print one line per score, or one JSON document."""
    from dataclasses import asdict

    if as_json:
        print(json.dumps({name: asdict(found) for name, found in scores.items()}))
        return
    for name, found in scores.items():
        print(f"{name}: {found}")
