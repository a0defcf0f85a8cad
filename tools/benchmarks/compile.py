"""What `torch.compile` brings to the parts of a supernet's step that are static, on this machine.

    python -m tools.benchmarks.compile [--space NAME ...] [--part NAME ...] [--full-size] \
        [--repeats N]
    python -m tools.benchmarks.compile --device cuda --precision bfloat16 --full-size \
        --batch-size 64

The largest member, as training compiles it; the smallest, extracted; the loss on labels, and that
on the largest's heatmaps. Forward and backward, compiled and eager by turns; medians. A loss is
called often in a turn, being short. What does not compile here is said with its reason.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from tools.benchmarks.command import command_line, exit_with, write_report
from tools.benchmarks.interleaved import Setting, add_options, interleaved, setting_of, space_of
from vipnas.models.posenet import PoseNet, extract
from vipnas.space.image import SearchSpace
from vipnas.training.compute import Forward, make_forward
from vipnas.training.losses import distillation_loss, heatmap_loss

SPACES = ("quick", "s_vipnas_res50", "s_vipnas_mbv3", "lat_vipnas")
PARTS = ("losses", "smallest", "largest")
BATCH_SIZE = 16
CALLS = 20  # of a loss in a turn

Way = Callable[[], None]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--space", action="append", choices=SPACES, help="only this one")
    parser.add_argument("--part", action="append", choices=PARTS, help="only this one")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--report", type=Path, help="write the table there too, as markdown")
    add_options(parser, BATCH_SIZE)
    options = parser.parse_args()
    setting = setting_of(options)
    lines = [
        f"{setting}; medians of {options.repeats} forward and backward passes, taking turns.",
        "",
        command_line(),
        "",
        "| space | what | eager ms | compiled ms | compiled / eager | compiling, s |"
        + " on the GPU: eager ms | compiled ms |" * setting.on_gpu,
        "|---|---|---|---|---|---|" + "---|---|" * setting.on_gpu,
    ]
    print("\n".join(lines), flush=True)
    for name in options.space or SPACES:
        space = space_of(name, options.full_size)
        for part in options.part or PARTS:
            rows = _loss_rows if part == "losses" else _member_rows
            for row in rows(space, setting, part):
                lines.append(row)
                print(row, flush=True)
    write_report(options.report, lines)
    return 0


def _member_rows(space: SearchSpace, setting: Setting, part: str) -> Iterator[str]:
    network = setting.supernet(space)
    if part == "smallest":
        network = extract(network, space.min_arch())
    images = setting.images(space)
    compiled = replace(setting.compute, compile=True)
    eager, whole = make_forward(network, setting.compute), make_forward(network, compiled)
    name = part if part == "largest" else f"{part}, extracted"
    ways = (_pass(eager, network, images), _pass(whole, network, images))
    yield _row(space, name, setting, ways)


def _pass(forward: Forward, network: PoseNet, images: Tensor) -> Way:
    def run() -> None:
        network.zero_grad(set_to_none=True)
        forward(images, None).square().mean().backward()

    return run


def _loss_rows(space: SearchSpace, setting: Setting, part: str) -> Iterator[str]:
    shape = (setting.batch_size, space.num_keypoints, *space.max_arch().heatmap_hw)
    order = torch.channels_last if setting.compute.channels_last else torch.contiguous_format
    heatmaps, teacher = (
        torch.rand(shape, device=setting.device).contiguous(memory_format=order) for _ in range(2)
    )
    heatmaps.requires_grad_()
    targets = torch.rand(shape, device=setting.device)  # as the codec makes them
    weights = torch.ones(shape[:2], device=setting.device)
    for name, loss, inputs in (
        ("loss on labels", heatmap_loss, (targets, weights)),
        ("distillation loss", distillation_loss, (teacher,)),
    ):
        compiled: Callable[..., Tensor] = torch.compile(loss)
        ways = (_often(loss, heatmaps, *inputs), _often(compiled, heatmaps, *inputs))
        yield _row(space, name, setting, ways, CALLS)


def _often(loss: Callable[..., Tensor], heatmaps: Tensor, *inputs: Tensor) -> Way:
    def run() -> None:
        for _ in range(CALLS):
            heatmaps.grad = None
            loss(heatmaps, *inputs).backward()

    return run


def _row(
    space: SearchSpace, name: str, setting: Setting, ways: tuple[Way, Way], calls: int = 1
) -> str:
    """Eager and compiled. Compiling is what the first pass takes longer than a later one."""
    eager, compiled = ways
    torch.compiler.reset()  # one network's versions are not those of the next
    start = f"| {space.name}, {'x'.join(map(str, space.input_hw))} | {name} |"
    eager()
    started = time.perf_counter()
    try:
        compiled()
        setting.now()
    except Exception as error:  # whatever the compiler trips over: the table says it
        return f"{start} | | does not compile: {_reason(error)} | |"
    first_s = time.perf_counter() - started
    compared = interleaved(setting, setting.repeats, compiled, eager)
    times = [compared.second_s, compared.first_s, *(compared.gpu_s or ())[::-1]]
    eager_ms, compiled_ms, *gpu_ms = (f"{seconds / calls * 1e3:.2f}" for seconds in times)
    row = f"{start} {eager_ms} | {compiled_ms} | {compared.ratio:.3f}"
    return " | ".join([row, f"{first_s - compared.first_s:.0f}", *gpu_ms, ""]).rstrip()


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:120]


if __name__ == "__main__":
    exit_with(main)
