"""What a network gains and loses in fewer bits: size, milliseconds and AP by format and precision.

    python -m tools.benchmarks.precision EXPERIMENT --model FILE [--arch NAME ...] [--report FILE]
    python -m tools.benchmarks.precision --arch NAME ... [--runtime NAME ...] [--precision NAME ...]

The trained network is exported in every form, int8 calibrated on training crops of the experiment;
each file is scored on the experiment's test set and timed, batch 1, in turn with the others. After
that, networks of --arch, with random weights, are only timed, in every runtime and precision asked
for: a small network shows little of what integers save. Without an experiment that is all.
PyTorch compiles for about a minute a network and precision.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import nn

from tools.benchmarks.command import command_line, exit_with, write_report
from tools.benchmarks.members import HELP, find_member
from vipnas.arch.image import Arch
from vipnas.deploy.export import Form, export_network
from vipnas.latency.interleaved import MAX_SPREAD, Latency, interleaved
from vipnas.latency.measure import fill_for_timing, key_of_this_machine, pinned, quick_run
from vipnas.latency.profile import retry_if_noisy
from vipnas.models.counting import count_cost
from vipnas.models.posenet import PoseNet
from vipnas.pipeline.experiment import Experiment
from vipnas.pipeline.models import open_model
from vipnas.runtimes.exported import ExportedNetwork
from vipnas.runtimes.half import HalfInside
from vipnas.runtimes.onnx_model import quantise, to_onnx_quickly
from vipnas.runtimes.table import RUNTIMES

FORMS = (
    Form("onnx", "fp32"),
    Form("onnx", "fp16"),
    Form("onnx", "int8"),
    Form("openvino", "fp32"),
    Form("openvino", "fp16"),
    Form("openvino", "int8"),
    Form("torch", "fp32"),
    Form("torch", "fp16"),
)
COMPARED = ("onnxruntime", "openvino")


def main() -> int:
    options = _parser().parse_args()
    if (options.experiment is None) != (options.model is None):
        raise ValueError("give an experiment and --model, or neither")
    lines = [
        f"# Precisions, {date.today()}",
        "",
        command_line(),
        "",
    ]
    if options.experiment is not None:
        experiment = Experiment.open(
            options.experiment, options.output, options.data_root, torch.device("cpu")
        )
        network = open_model(experiment, options.model).pose_net()
        lines += [*_forms(experiment, network, options.max_spread), ""]
    ways = [
        (runtime, precision)
        for runtime in options.runtime or COMPARED
        for precision in options.precision or RUNTIMES[runtime].precisions
        if precision in RUNTIMES[runtime].precisions
    ]
    for name in options.arch:
        lines += [*_timed_only(name, ways, options.max_spread), ""]
    print("\n".join(lines))
    write_report(options.report, lines)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("experiment", nargs="?", help="whose test set and crops are taken")
    parser.add_argument("--model", type=Path, help="model file of a trained network")
    parser.add_argument("--arch", action="append", default=[], help=f"also timed: {HELP}")
    parser.add_argument("--runtime", action="append", choices=tuple(RUNTIMES), help="for --arch")
    parser.add_argument("--precision", action="append", choices=RUNTIMES["openvino"].precisions)
    parser.add_argument("--output", type=Path, help="run folder of the experiment, for its data")
    parser.add_argument("--data-root", type=Path, default=Path())
    parser.add_argument("--max-spread", type=float, default=MAX_SPREAD)
    parser.add_argument("--report", type=Path, help="write all there, as markdown")
    return parser


def _forms(experiment: Experiment, network: PoseNet, max_spread: float) -> Iterator[str]:
    """Every form of the trained network: a table."""
    evaluator = experiment.evaluator("test")
    key = key_of_this_machine("onnxruntime", network.arch.input_hw)
    images = np.random.default_rng(0).standard_normal((1, 3, *key.input_hw), dtype=np.float32)
    with TemporaryDirectory() as folder, pinned(key):
        files = [
            _export(network, Path(folder) / str(number), form, experiment)
            for number, form in enumerate(FORMS)
        ]
        exported = [ExportedNetwork(path, threads=1) for path in files]
        # The same file as in float32, for processors that compute in bfloat16.
        files.append(files[FORMS.index(Form("openvino", "fp32"))])
        exported.append(ExportedNetwork(files[-1], 1, "bf16"))
        timed = [_run_of(network.eval(), images), *(_run_of(one, images) for one in exported)]
        latencies = _measured(timed, max_spread)
        aps = [evaluator(one).ap for one in (network, *exported)]
        sizes = [sum(part.stat().st_size for part in path.parent.iterdir()) for path in files]
    yield (
        f"{count_cost(network.arch)}, {key.input_hw[0]} x {key.input_hw[1]},"
        f" {len(evaluator.crops.persons)} test persons; {key.device}, one thread, batch 1."
    )
    yield ""
    yield "| file | kB | ms | spread | AP | AP against PyTorch |"
    yield "|---|---|---|---|---|---|"
    forms = (f"{form.format} {form.precision}" for form in FORMS)
    names = ["PyTorch, eager", *forms, "openvino fp32, computed in bf16"]
    for name, size, latency, ap in zip(names, [None, *sizes], latencies, aps, strict=True):
        kilobytes = "" if size is None else f"{size / 1e3:.0f}"
        yield (
            f"| {name} | {kilobytes} | {latency.median_ms:.2f} | {latency.spread:.1%} | {ap:.4f} |"
            f" {ap - aps[0]:+.4f} |"
        )


def _export(network: PoseNet, folder: Path, form: Form, experiment: Experiment) -> Path:
    folder.mkdir()
    path = folder / f"network{form.file.suffix}"
    _progress(str(export_network(network, path, form, experiment.calibration_images)))
    return path


def _run_of(network: nn.Module, images: np.ndarray) -> Callable[[], None]:
    images_13HW = torch.from_numpy(images)

    @torch.inference_mode()
    def run() -> None:
        network(images_13HW)

    return run


def _timed_only(name: str, ways: Sequence[tuple[str, str]], max_spread: float) -> Iterator[str]:
    """An architecture in every one of these runtimes and precisions: a table."""
    arch = find_member(name)
    keys = [
        key_of_this_machine(runtime, arch.input_hw, precision=precision)
        for runtime, precision in ways
    ]
    with pinned(keys[0]):
        runs = [quick_run(PoseNet(arch), (3, *arch.input_hw), key) for key in keys]
        latencies = _measured(runs, max_spread)
    yield f"{name} ({count_cost(arch)}), {arch.input_hw[0]} x {arch.input_hw[1]}, random weights:"
    yield ""
    yield "| runtime | precision | ms | spread | against the first | kB of the ONNX file |"
    yield "|---|---|---|---|---|---|"
    sizes = _onnx_sizes(arch)
    first: dict[str, float] = {}
    for key, latency in zip(keys, latencies, strict=True):
        ratio = latency.median_ms / first.setdefault(key.runtime, latency.median_ms)
        yield (
            f"| {key.runtime} | {key.precision} | {latency.median_ms:.2f} | {latency.spread:.1%} |"
            f" {ratio:.2f} | {sizes[key.precision] / 1e3:.0f} |"
        )


def _onnx_sizes(arch: Arch) -> dict[str, int]:
    """Bytes by precision; what is computed in bf16 is stored in float32."""
    network, images = PoseNet(arch), torch.randn(1, 3, *arch.input_hw)
    fill_for_timing(network)
    whole = to_onnx_quickly(network, {"images": images})
    return {
        "fp32": len(whole),
        "bf16": len(whole),
        "int8": len(quantise(whole, "images", images.numpy())),
        "fp16": len(to_onnx_quickly(HalfInside(network), {"images": images})),
    }


def _measured(runs: Sequence[Callable[[], None]], max_spread: float) -> list[Latency]:
    return retry_if_noisy(partial(interleaved, runs, max_spread, rounds=10), _progress)


def _progress(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    exit_with(main)
