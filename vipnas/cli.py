"""The command line: arguments in, one line of error out. Only here is a config unpacked."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import vipnas
from vipnas.video_commands import add_video_commands

if TYPE_CHECKING:
    import torch

    from vipnas.experiment import Experiment
    from vipnas.latency.measure import Key
    from vipnas.models.posenet import PoseNet
    from vipnas.search.parallel import RaySettings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. Errors of the user's are one line on stderr."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        options.run(options)
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"vipnas {options.command}: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"vipnas {options.command}: interrupted; the same command goes on", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vipnas", description=vipnas.__doc__)
    parser.add_argument("--version", action="version", version=vipnas.__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    chain = _experiment_command(commands, "run", "the whole chain of an experiment")
    _worker_arguments(chain)
    chain.set_defaults(run=_run)
    supernet = _experiment_command(commands, "train-supernet", "train the weight-sharing supernet")
    supernet.set_defaults(run=_train_supernet)
    search = _experiment_command(commands, "search", "search the supernet within the budgets")
    _worker_arguments(search)
    search.set_defaults(run=_search)
    retrain = _experiment_command(commands, "retrain", "train one architecture by itself")
    retrained = retrain.add_mutually_exclusive_group()
    retrained.add_argument("--arch", type=Path, help="arch JSON (default: best.json of the search)")
    retrained.add_argument("--front", type=Path, help="pareto.json of a search: train all of it")
    _worker_arguments(retrain)
    retrain.add_argument(
        "--init-from", type=Path, help="weights to start from (default: as the experiment says)"
    )
    retrain.set_defaults(run=_retrain)

    evaluate = _experiment_command(commands, "evaluate", "figures of trained weights, or results")
    measured = evaluate.add_mutually_exclusive_group(required=True)
    measured.add_argument("--weights", type=Path, help="checkpoint of a network or supernet")
    measured.add_argument("--from-results", type=Path, help="COCO results JSON to score instead")
    evaluate.add_argument("--arch", type=Path, help="arch JSON, to score a member of a supernet")
    evaluate.add_argument("--split", choices=("test", "search"), default="test")
    evaluate.add_argument("--pictures", type=Path, help="PNG to write: 16 people, predicted poses")
    evaluate.add_argument("--results", type=Path, help="COCO results JSON to write: all found")
    evaluate.add_argument(
        "--metrics",
        nargs="+",
        help="coco, pck, pckh, posetrack, mota (default: all that the data allow)",
    )
    evaluate.add_argument("--json", action="store_true", help="print all figures as JSON")
    evaluate.set_defaults(run=_evaluate)

    inspect = _experiment_command(commands, "inspect-data", "what is in a data set, and a picture")
    inspect.add_argument("--split", choices=("train", "search", "test"), default="train")
    inspect.add_argument("--sheet", type=Path, default=Path("data.png"), help="PNG to write")
    inspect.add_argument("--num-persons", type=int, default=24)
    inspect.add_argument("--augmented", action="store_true", help="as training sees them")
    inspect.set_defaults(run=_inspect)

    cost = commands.add_parser("cost", help="MACs, parameters, latency of an architecture")
    cost.add_argument("--arch", required=True, help="arch JSON, a file or a shipped name")
    cost.add_argument("--latency", action="store_true", help="measure it on this machine")
    cost.add_argument("--json", action="store_true", help="print exact numbers as JSON")
    _runtime_arguments(cost)
    cost.set_defaults(run=_cost)

    profile = commands.add_parser("profile", help="a latency table of a space, on this machine")
    profile.add_argument("space", help="search space YAML, a file or a shipped name")
    profile.add_argument("--num-archs", type=_count, default=80, help="networks to measure")
    profile.add_argument("--num-blocks", type=_count, default=600, help="layers to measure")
    profile.add_argument("--input-hw", type=int, nargs=2, metavar="PX", help="replaces the space's")
    profile.add_argument("--output", type=Path, help="file (default: latency/..., after its key)")
    _runtime_arguments(profile)
    profile.set_defaults(run=_profile)

    add_video_commands(
        commands,
        _experiment_command,
        _worker_arguments,
        _open,
        _open_with_others,
        _ray_settings,
    )

    convert = commands.add_parser("convert", help="weights to the published checkpoint format")
    _weights_arguments(convert)
    convert.set_defaults(run=_convert)

    export = commands.add_parser("export", help="a network for other runtimes")
    _weights_arguments(export)
    export.add_argument("--format", choices=("onnx", "openvino", "torch"), default="onnx")
    export.add_argument("--precision", choices=("fp32", "fp16", "int8"), default="fp32")
    export.add_argument(
        "--calibrate-with", metavar="EXPERIMENT", help="whose training crops int8 is scaled by"
    )
    export.add_argument("--data-root", type=Path, default=Path(), help="folder of its data's paths")
    export.add_argument(
        "--with-preprocessing", action="store_true", help="takes uint8 RGB (N, H, W, 3)"
    )
    export.add_argument(
        "--with-decode", action="store_true", help="gives x, y, score (codec quarter), not heatmaps"
    )
    export.set_defaults(run=_export)

    predict = commands.add_parser("predict", help="poses in image files, one person to an image")
    _weights_arguments(predict)
    predict.add_argument("--images", type=Path, nargs="+", required=True, help="image files")
    predict.add_argument("--codec", default="quarter", help="quarter, dark or udp")
    predict.add_argument("--skeleton", default="coco_17", help="shipped name or YAML file")
    predict.set_defaults(run=_predict)

    synthesize = commands.add_parser("synthesize", help="draw a data set of people")
    synthesize.add_argument("--output", type=Path, required=True, help="folder to make")
    synthesize.add_argument("--video", action="store_true", help="videos with tracks (PoseTrack18)")
    number = synthesize.add_mutually_exclusive_group(required=True)
    number.add_argument("--num-images", type=int)
    number.add_argument("--num-videos", type=int, help="with --video")
    synthesize.add_argument("--num-frames", type=int, default=24, help="of each video, 25 a second")
    synthesize.add_argument("--speed", type=float, default=1.0, help="of people in videos")
    synthesize.add_argument("--seed", type=int, default=0)
    synthesize.add_argument("--image-hw", type=int, nargs=2, default=(240, 320), metavar="PX")
    synthesize.add_argument(
        "--people", type=int, nargs=2, default=(1, 3), metavar="N", help="least and most at a time"
    )
    synthesize.add_argument("--difficulty", type=float, default=1.0, help="0 to 1")
    synthesize.add_argument("--num-workers", type=int, default=1)
    synthesize.set_defaults(run=_synthesize)
    return parser


def _experiment_command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text)
    command.add_argument("experiment", help="experiment YAML, a file or a shipped name")
    command.add_argument("--output", type=Path, help="folder of the run (default: runs/NAME)")
    command.add_argument(
        "--data-root", type=Path, default=Path(), help="folder of the data's paths"
    )
    command.add_argument("--device", help="torch device (default: cuda where there is one)")
    command.add_argument("--skip-bad-images", action="store_true", help="log them and go on")
    return command


def _worker_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--workers", type=int, help="Ray workers (default: this process, no Ray)")
    command.add_argument("--gpus-per-worker", type=float, help="a part lets them share one")
    command.add_argument("--ray-address", help="a cluster's, or auto (default: this machine only)")


def _weights_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--weights", type=Path, required=True, help="checkpoint of a network")
    command.add_argument("--arch", help="arch JSON, a file or a shipped name")
    command.add_argument(
        "-o", "--output", type=Path, required=True, help="file (predict: folder) to write"
    )


def _runtime_arguments(command: argparse.ArgumentParser) -> None:
    names = ("onnxruntime", "openvino", "torch", "torch-compiled")
    command.add_argument("--runtime", choices=names, default="onnxruntime")
    command.add_argument("--threads", type=_count, default=1)
    command.add_argument("--batch", type=_count, default=1, help="images at a time")
    command.add_argument("--precision", choices=("fp32", "bf16", "fp16"), default="fp32")
    command.add_argument("--accelerator", choices=("cpu", "cuda"), default="cpu")
    command.add_argument(
        "--max-spread", type=float, default=0.1, help="of the samples; beyond, none is reported"
    )


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text}, allowed are whole numbers from 1")
    return int(text)


def _key(options: argparse.Namespace, input_hw: tuple[int, int]) -> Key:
    """What a latency measured on this machine with these arguments belongs to."""
    from vipnas.latency.measure import key_of_this_machine

    return key_of_this_machine(
        options.runtime,
        input_hw,
        options.threads,
        options.batch,
        options.precision,
        options.accelerator,
    )


@contextmanager
def _open_with_others(options: argparse.Namespace) -> Iterator[Experiment]:
    """The experiment in each of the processes that torchrun started. The first alone prints, and
    reads the data before the others do: they may have to be drawn."""
    from vipnas.training.distributed import joined

    with joined(_device(options)) as processes, ExitStack() as stack:
        if not processes.is_first:
            stack.enter_context(redirect_stdout(stack.enter_context(open(os.devnull, "w"))))
        experiment = replace(_open(options, processes.number), processes=processes)
        with processes.first_then_others():
            experiment.training_crops  # noqa: B018
        yield experiment


def _open(options: argparse.Namespace, allowed_processes: int = 1) -> Experiment:
    """The experiment of a command. Imports torch, which `vipnas --help` does without."""
    from vipnas.config import read_experiment
    from vipnas.experiment import Experiment
    from vipnas.memory import keep_freed_memory
    from vipnas.shipped import find_shipped
    from vipnas.training.distributed import number_of_processes

    if (number := number_of_processes()) > allowed_processes:
        raise ValueError(
            f"found {number} processes (WORLD_SIZE), allowed is 1: only train-supernet and retrain"
            " can share their work"
        )
    keep_freed_memory()
    path = find_shipped("experiments", options.experiment)
    return Experiment(
        config=read_experiment(path),
        output=options.output or Path("runs") / path.stem,
        data_root=options.data_root,
        device=_device(options),
        skip_bad_images=options.skip_bad_images,
    )


def _ray_settings(options: argparse.Namespace) -> RaySettings | None:
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


def _network(options: argparse.Namespace) -> PoseNet:
    """The network of --weights and --arch."""
    from vipnas.arch import read_arch
    from vipnas.shipped import find_shipped
    from vipnas.training.checkpoint import inherit, load_weights

    if options.arch is None:
        return load_weights(options.weights)
    return inherit(options.weights, read_arch(find_shipped("search_spaces", options.arch))).eval()


def _run(options: argparse.Namespace) -> None:
    from vipnas.chain import run

    run(_open(options), _ray_settings(options))


def _train_supernet(options: argparse.Namespace) -> None:
    from vipnas.stages.supernet import train_supernet

    with _open_with_others(options) as experiment:
        train_supernet(experiment)


def _search(options: argparse.Namespace) -> None:
    from vipnas.stages.search import search

    search(_open(options), _ray_settings(options))


def _retrain(options: argparse.Namespace) -> None:
    from vipnas.stages.retrain import retrain
    from vipnas.stages.retrain_front import retrain_front
    from vipnas.stages.search import best_file

    ray = _ray_settings(options)
    if options.front is not None:
        retrain_front(_open(options), options.front, options.init_from, ray)
        return
    if ray is not None:
        raise ValueError("--workers: one arch is one training; allowed: with --front only")
    with _open_with_others(options) as experiment:
        retrain(experiment, options.arch or best_file(experiment), options.init_from)


def _inspect(options: argparse.Namespace) -> None:
    from vipnas.data.inspect import inspect_data

    experiment = _open(options)
    data = getattr(experiment, f"{options.split}_data")
    augmentation = experiment.config.augmentation if options.augmented else None
    text = inspect_data(
        data,
        experiment.codec,
        options.sheet,
        options.num_persons,
        augmentation,
        experiment.config.seed,
    )
    print(text)


def _cost(options: argparse.Namespace) -> None:
    from dataclasses import asdict, replace

    from vipnas.arch import read_arch
    from vipnas.cost import count_cost
    from vipnas.shipped import find_shipped

    arch = read_arch(find_shipped("search_spaces", options.arch))
    cost = count_cost(arch)
    if not options.latency:
        print(json.dumps(asdict(cost)) if options.json else cost)
        return
    from vipnas.latency.measure import measure_arch

    key = _key(options, arch.input_hw)
    latency = measure_arch(arch, key, options.max_spread)
    cost = replace(cost, latency_ms=latency.median_ms)
    found = {**asdict(cost), "latency": asdict(latency), "key": asdict(key)}
    print(json.dumps(found) if options.json else f"{cost}; {key}: {latency}")


def _profile(options: argparse.Namespace) -> None:
    from functools import partial

    from vipnas.latency.predict import Predictor
    from vipnas.latency.profile import Profile, profile_space
    from vipnas.latency.table import default_file, fingerprint
    from vipnas.shipped import find_shipped
    from vipnas.space import read_space

    space = read_space(find_shipped("search_spaces", options.space))
    if options.input_hw:
        space = space.with_facts(input_hw=tuple(options.input_hw))
    key = _key(options, space.input_hw)
    path = options.output or default_file(space, key)
    amount = Profile(options.num_archs, options.num_blocks, max_spread=options.max_spread)
    table = profile_space(space, key, path, amount, partial(print, flush=True))
    print(f"profile: {path}: {Predictor(table, fingerprint(path))}")


def _convert(options: argparse.Namespace) -> None:
    from vipnas.models.published import save_published, without_counterpart

    network = _network(options)
    save_published(options.output, network)
    for fact in without_counterpart(network.arch):
        print(f"convert: note: {fact}", file=sys.stderr)
    print(f"convert: {options.output}")


def _export(options: argparse.Namespace) -> None:
    from vipnas.deploy.export import Form, export_network

    form = Form(options.format, options.precision, options.with_preprocessing, options.with_decode)
    crops = None
    if options.calibrate_with is not None:
        import torch

        from vipnas.config import read_experiment
        from vipnas.experiment import Experiment
        from vipnas.shipped import find_shipped

        config = read_experiment(find_shipped("experiments", options.calibrate_with))
        experiment = Experiment(config, Path(), options.data_root, torch.device("cpu"))
        crops = experiment.calibration_images
    print(f"export: {export_network(_network(options), options.output, form, crops)}")


def _predict(options: argparse.Namespace) -> None:
    from vipnas.data.heatmap import make_codec
    from vipnas.data.skeletons import read_skeleton
    from vipnas.deploy.predictor import predict_images

    network = _network(options)
    arch, skeleton = network.arch, read_skeleton(options.skeleton)
    if skeleton.num_joints != arch.num_keypoints:
        raise ValueError(
            f"--skeleton {skeleton.name}: has {skeleton.num_joints} joints,"
            f" the network has {arch.num_keypoints}"
        )
    codec = make_codec(options.codec, arch.input_hw, arch.heatmap_hw)
    print(f"predict: {predict_images(network, codec, skeleton, options.images, options.output)}")


def _synthesize(options: argparse.Namespace) -> None:
    from vipnas.data.synthetic import synthesize
    from vipnas.data.synthetic_video import synthesize_video

    image_hw, people = tuple(options.image_hw), tuple(options.people)
    workers, difficulty = options.num_workers, options.difficulty
    if options.video != (options.num_videos is not None):
        raise ValueError("--video and --num-videos go together; allowed: both, or --num-images")
    if options.video:
        count, what = options.num_videos, "videos"
        synthesize_video(
            options.output,
            count,
            options.seed,
            options.num_frames,
            image_hw,
            people,
            workers,
            difficulty,
            options.speed,
        )
    else:
        count, what = options.num_images, "images"
        synthesize(options.output, count, options.seed, image_hw, people, workers, difficulty)
    print(f"synthesize: {count} {what} in {options.output}")


def _evaluate(options: argparse.Namespace) -> None:
    from dataclasses import asdict

    from vipnas.stages.evaluate import evaluate, evaluate_results

    experiment = _open(options)
    if options.from_results is not None:
        for name in ("arch", "pictures", "results"):
            if getattr(options, name) is not None:
                raise ValueError(f"--{name}: needs a network; allowed: with --weights only")
        scores = evaluate_results(experiment, options.from_results, options.split, options.metrics)
    else:
        scores = evaluate(
            experiment,
            options.weights,
            options.arch,
            options.split,
            options.metrics,
            options.pictures,
            options.results,
        )
    if options.json:
        print(json.dumps({name: asdict(found) for name, found in scores.items()}))
        return
    for name, found in scores.items():
        print(f"{name}: {found}")
