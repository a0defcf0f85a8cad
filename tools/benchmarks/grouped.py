"""Grouped convolutions on this machine: with how many groups, and in which memory order?

    python -m tools.benchmarks.grouped [--space NAME ...] [--full-size] [--repeats N] [--report \
        FILE]
    python -m tools.benchmarks.grouped --device cuda --precision bfloat16 --full-size \
        --batch-size 64

A convolution with groups is also one with fewer groups whose weights off the block diagonal are 0:
more multiply-adds, but in a shape that the library may compute faster; with one group it is dense.
Every grouped layer of a space's largest, smallest and some random architectures is timed, forward
and backward: with its groups, and with two, four, eight or (on a GPU) all of them as one. Widening
the weight counts. So is the other memory order: in a network that runs in it (`contiguous`), and in
the layer alone, which then converts its input and its output (`turned`). The forms take turns;
medians. On a CPU seconds are those that the process computed, on a GPU those between two events in
its queue. A summary by the channels of a group follows, each layer as often as the architectures
have it.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor

from tools.benchmarks.command import command_line, exit_with, write_report
from tools.benchmarks.grouped_forms import Form, Grouped, forms_of, grouped_layers
from tools.benchmarks.interleaved import Setting, add_options, setting_of, space_of
from vipnas.space.image import SearchSpace

SPACES = ("tiny", "quick", "s_vipnas_res50", "s_vipnas_mbv3")
BATCH_SIZE = 8
NUM_RANDOM = 3
FORMS = ("own", "contiguous", "turned", "two", "four", "eight", "dense")
CLASSES = (1, 2, 4, 8, 16, 32, 64)  # of channels a group: up to so many
WARM_UP_ROUNDS = {"cpu": 1, "cuda": 3}
# Cleared before each pass on a GPU, 0.8 ms of work: the host queues the pass in the meantime, so
# that only the GPU is timed, and nothing of the pass before is left in its caches.
CLEARED_BYTES, CLEARED_TIMES = 1 << 30, 3


def timed_forms(layer: Grouped, setting: Setting) -> dict[str, float]:
    """Median seconds of a pass in every form; none of a form that the library does not compute."""
    dtype = torch.bfloat16 if setting.compute.precision == "bfloat16" else torch.float32
    shape = (setting.batch_size, *layer.input_chw)
    weight = torch.randn(layer.weight_shape, device=setting.device).requires_grad_()
    images = torch.randn(shape, dtype=dtype, device=setting.device)
    inputs = {
        order: images.contiguous(memory_format=order).detach().requires_grad_()
        for order in (torch.channels_last, torch.contiguous_format)
    }
    seconds_of = _gpu_seconds if setting.on_gpu else _cpu_seconds
    taken: dict[str, list[Callable[[], float]]] = {}
    forms = forms_of(layer, with_dense=setting.on_gpu)
    warm_up = WARM_UP_ROUNDS[setting.device.type]
    for repeat in range(setting.repeats + warm_up):
        for name, form in list(forms.items()):
            try:
                seconds = seconds_of(form, layer, weight, inputs[form.given])
            except RuntimeError as error:
                print(f"{layer}, {name}: {str(error)[:100]}", file=sys.stderr)
                del forms[name]
                continue
            if repeat >= warm_up:
                taken.setdefault(name, []).append(seconds)
    return {name: median(read() for read in taken[name]) for name in forms}


def _cpu_seconds(form: Form, layer: Grouped, weight: Tensor, x: Tensor) -> Callable[[], float]:
    started = time.process_time()
    form.one_pass(layer, weight, x)
    seconds = time.process_time() - started
    return lambda: seconds


@cache
def _cleared(device: torch.device) -> Tensor:
    return torch.empty(CLEARED_BYTES, dtype=torch.uint8, device=device)


def _gpu_seconds(form: Form, layer: Grouped, weight: Tensor, x: Tensor) -> Callable[[], float]:
    """To be read when all is queued: reading waits."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    for _ in range(CLEARED_TIMES):
        _cleared(x.device).zero_()
    begin.record()
    form.one_pass(layer, weight, x)
    end.record()

    def read() -> float:
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1e3

    return read


class Measured(NamedTuple):
    """A layer, how often the architectures have it, and the seconds of its forms."""

    layer: Grouped
    times: int
    seconds: dict[str, float]

    def share(self, form: str) -> float | None:
        seconds = self.seconds.get(form)
        return None if seconds is None else seconds / self.seconds["own"]


def layers_of(space: SearchSpace) -> list[tuple[Grouped, int]]:
    """The grouped layers, and how often the architectures have each.

    They come in a random order, so that the first are like the rest.
    """
    rng = random.Random(0)
    archs = [space.min_arch(), *(space.sample(rng) for _ in range(NUM_RANDOM)), space.max_arch()]
    layers = list(Counter(layer for arch in archs for layer in grouped_layers(arch)).items())
    rng.shuffle(layers)
    return layers


def row(space: SearchSpace, found: Measured) -> str:
    layer = found.layer
    shares = (found.share(form) for form in FORMS[1:])
    cells = ("" if share is None else f"{share:.2f}" for share in shares)
    return (
        f"| {space.name} | {layer} | {found.times} | {layer.groups} of {layer.channels_a_group} |"
        f" {found.seconds['own'] * 1e3:.2f} | {' | '.join(cells)} |"
    )


def summary(found: Sequence[Measured]) -> Iterator[str]:
    """By kind and channels a group. A layer that lacks a form is counted in its own instead."""
    yield (
        f"| channels a group | layers | own ms | {' | '.join(FORMS[1:])} | best of each |"
        " fastest: layers (their median share) |"
    )
    yield "|---" * (len(FORMS) + 4) + "|"
    kinds: dict[str, list[Measured]] = {}
    for one in sorted(found, key=lambda one: (one.layer.transposed, one.layer.channels_a_group)):
        kind = f"{'deconv' if one.layer.transposed else 'conv'}, {_class_of(one.layer)}"
        kinds.setdefault(kind, []).append(one)
    kinds["all"] = [one for kind in kinds.values() for one in kind]
    for kind, ones in kinds.items():
        own = sum(one.times * one.seconds["own"] for one in ones)
        cells = " | ".join(_share_of_all(ones, form) for form in FORMS[1:])
        best = sum(one.times * one.seconds[_fastest(one)] for one in ones) / own
        number = sum(one.times for one in ones)
        fastest = _fastest_ones(ones)
        yield f"| {kind} | {number} | {own * 1e3:.1f} | {cells} | {best:.2f} | {fastest} |"


def _class_of(layer: Grouped) -> str:
    """Of the channels of a group: 5 to 8, say."""
    each = layer.channels_a_group
    for below, limit in zip((0, *CLASSES), CLASSES, strict=False):
        if each <= limit:
            return str(limit) if limit - below == 1 else f"{below + 1} to {limit}"
    return f"above {CLASSES[-1]}"


def _share_of_all(ones: Sequence[Measured], form: str) -> str:
    if not any(form in one.seconds for one in ones):
        return ""
    seconds = sum(one.times * one.seconds.get(form, one.seconds["own"]) for one in ones)
    return f"{seconds / sum(one.times * one.seconds['own'] for one in ones):.2f}"


def _fastest(one: Measured) -> str:
    """Of the forms that a layer may choose for itself; the memory order is all layers' choice."""
    forms = [form for form in FORMS if form in one.seconds and form != "contiguous"]
    return min(forms, key=one.seconds.__getitem__)


def _fastest_ones(ones: Sequence[Measured]) -> str:
    shares: dict[str, list[float]] = {}
    for one in ones:
        fastest = _fastest(one)
        shares.setdefault(fastest, []).append(one.seconds[fastest] / one.seconds["own"])
    return ", ".join(
        f"{form} {len(shares[form])} ({median(shares[form]):.2f})"
        for form in FORMS
        if form in shares
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--space", action="append", choices=SPACES, help="only this one")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="at most, of a space")
    parser.add_argument("--report", type=Path, help="write the tables there too, as markdown")
    add_options(parser, BATCH_SIZE)
    options = parser.parse_args()
    setting = setting_of(options)
    lines = [
        f"{setting}; forward and backward, medians of {options.repeats}; shares of `own`.",
        "",
        command_line(),
        "",
        f"| space | layer | times | groups | own ms | {' | '.join(FORMS[1:])} |",
        "|---" * (len(FORMS) + 4) + "|",
    ]
    print("\n".join(lines), flush=True)
    summaries: list[str] = []
    for name in options.space or SPACES:
        space = space_of(name, options.full_size)
        layers, found = layers_of(space), []
        started = time.perf_counter()
        for layer, times in layers:
            found.append(Measured(layer, times, timed_forms(layer, setting)))
            lines.append(row(space, found[-1]))
            print(lines[-1], flush=True)
            if time.perf_counter() - started > options.seconds:
                break
        which = f"{name}, {len(found)} of {len(layers)} different layers:"
        summaries += ["", which, "", *summary(found)]
    print("\n".join(summaries))
    write_report(options.report, [*lines, *summaries])
    return 0


if __name__ == "__main__":
    exit_with(main)
