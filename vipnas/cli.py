"""The command line: arguments in, one line of error out. Only here is a config unpacked."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import vipnas

if TYPE_CHECKING:
    from vipnas.experiment import Experiment
    from vipnas.models.posenet import PoseNet


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
    chain.set_defaults(run=_run)
    supernet = _experiment_command(commands, "train-supernet", "train the weight-sharing supernet")
    supernet.set_defaults(run=_train_supernet)
    search = _experiment_command(commands, "search", "search the supernet within the budgets")
    search.set_defaults(run=_search)
    retrain = _experiment_command(commands, "retrain", "train one architecture by itself")
    retrain.add_argument("--arch", type=Path, help="arch JSON (default: best.json of the search)")
    retrain.add_argument(
        "--init-from", type=Path, help="weights to start from (default: as the experiment says)"
    )
    retrain.set_defaults(run=_retrain)

    evaluate = _experiment_command(commands, "evaluate", "COCO figures of trained weights")
    evaluate.add_argument(
        "--weights", type=Path, required=True, help="checkpoint of a network or supernet"
    )
    evaluate.add_argument("--arch", type=Path, help="arch JSON, to score a member of a supernet")
    evaluate.add_argument("--split", choices=("test", "search"), default="test")
    evaluate.add_argument("--pictures", type=Path, help="PNG to write: 16 people, predicted poses")
    evaluate.add_argument("--json", action="store_true", help="print the ten figures as JSON")
    evaluate.set_defaults(run=_evaluate)

    inspect = _experiment_command(commands, "inspect-data", "what is in a data set, and a picture")
    inspect.add_argument("--split", choices=("train", "search", "test"), default="train")
    inspect.add_argument("--sheet", type=Path, default=Path("data.png"), help="PNG to write")
    inspect.add_argument("--num-persons", type=int, default=24)
    inspect.add_argument("--augmented", action="store_true", help="as training sees them")
    inspect.set_defaults(run=_inspect)

    cost = commands.add_parser("cost", help="MACs and parameters of an architecture")
    cost.add_argument("--arch", required=True, help="arch JSON, a file or a shipped name")
    cost.add_argument("--json", action="store_true", help="print exact numbers as JSON")
    cost.set_defaults(run=_cost)

    convert = commands.add_parser("convert", help="weights to the published checkpoint format")
    _weights_arguments(convert)
    convert.set_defaults(run=_convert)

    export = commands.add_parser("export", help="a network for other runtimes")
    _weights_arguments(export)
    export.add_argument("--format", choices=("onnx",), default="onnx")
    export.set_defaults(run=_export)

    predict = commands.add_parser("predict", help="poses in image files, one person to an image")
    _weights_arguments(predict)
    predict.add_argument("--images", type=Path, nargs="+", required=True, help="image files")
    predict.add_argument("--codec", default="quarter", help="quarter, dark or udp")
    predict.add_argument("--skeleton", default="coco_17", help="shipped name or YAML file")
    predict.set_defaults(run=_predict)

    synthesize = commands.add_parser("synthesize", help="draw a data set of people")
    synthesize.add_argument("--output", type=Path, required=True, help="folder to make")
    synthesize.add_argument("--num-images", type=int, required=True)
    synthesize.add_argument("--seed", type=int, default=0)
    synthesize.add_argument("--image-hw", type=int, nargs=2, default=(240, 320), metavar="PX")
    synthesize.add_argument("--people", type=int, nargs=2, default=(1, 3), metavar="N")
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


def _weights_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--weights", type=Path, required=True, help="checkpoint of a network")
    command.add_argument("--arch", help="arch JSON, a file or a shipped name")
    command.add_argument(
        "-o", "--output", type=Path, required=True, help="file (predict: folder) to write"
    )


def _open(options: argparse.Namespace) -> Experiment:
    """The experiment of a command. Imports torch, which `vipnas --help` does without."""
    import torch

    from vipnas.config import read_experiment
    from vipnas.experiment import Experiment
    from vipnas.memory import keep_freed_memory
    from vipnas.shipped import find_shipped

    keep_freed_memory()
    path = find_shipped("experiments", options.experiment)
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # the latter where torch has no CUDA
        raise ValueError(f"--device {device}: {str(error).splitlines()[0]}") from None
    return Experiment(
        config=read_experiment(path),
        output=options.output or Path("runs") / path.stem,
        data_root=options.data_root,
        device=torch.device(device),
        skip_bad_images=options.skip_bad_images,
    )


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

    run(_open(options))


def _train_supernet(options: argparse.Namespace) -> None:
    from vipnas.stages.supernet import train_supernet

    train_supernet(_open(options))


def _search(options: argparse.Namespace) -> None:
    from vipnas.stages.search import search

    search(_open(options))


def _retrain(options: argparse.Namespace) -> None:
    from vipnas.stages.retrain import retrain
    from vipnas.stages.search import best_file

    experiment = _open(options)
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
    print(f"{text}\ncontact sheet: {options.sheet}")


def _cost(options: argparse.Namespace) -> None:
    from dataclasses import asdict

    from vipnas.arch import read_arch
    from vipnas.cost import count_cost
    from vipnas.shipped import find_shipped

    cost = count_cost(read_arch(find_shipped("search_spaces", options.arch)))
    print(json.dumps(asdict(cost)) if options.json else cost)


def _convert(options: argparse.Namespace) -> None:
    from vipnas.models.published import save_published, without_counterpart

    network = _network(options)
    save_published(options.output, network)
    for fact in without_counterpart(network.arch):
        print(f"convert: note: {fact}", file=sys.stderr)
    print(f"convert: {options.output}")


def _export(options: argparse.Namespace) -> None:
    from vipnas.deploy.export import export_onnx

    print(f"export: {export_onnx(_network(options), options.output)}")


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

    synthesize(
        options.output,
        options.num_images,
        options.seed,
        tuple(options.image_hw),
        tuple(options.people),
        options.num_workers,
        options.difficulty,
    )
    print(f"synthesize: {options.num_images} images in {options.output}")


def _evaluate(options: argparse.Namespace) -> None:
    from dataclasses import asdict

    from vipnas.stages.evaluate import evaluate

    metrics = evaluate(
        _open(options), options.weights, options.arch, options.split, options.pictures
    )
    print(json.dumps(asdict(metrics)) if options.json else metrics)
