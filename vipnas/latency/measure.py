"""Latency as it is: the network on the runtime that will run it, timed in turns with others."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import PositiveInt

from vipnas.arch.image import Arch
from vipnas.config.search import Device, Precision, RuntimeName
from vipnas.files import Strict
from vipnas.latency.cores import least_busy_cores
from vipnas.latency.interleaved import MAX_SPREAD, ROUNDS, Beside, Latency, beside, interleaved
from vipnas.runtimes.onnx_model import quantise
from vipnas.runtimes.runtime import (
    HalfInside,
    Session,
    check_precision,
    device_name,
    fill_for_timing,
    open_session,
    runtime_version,
    to_onnx_quickly,
    torch_session,
    torch_threads,
)
from vipnas.threads import allowed_cores

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Key(Strict):
    """All that a latency belongs to, besides the network. Equal keys may be compared."""

    device: str
    runtime: RuntimeName
    runtime_version: str
    threads: PositiveInt
    batch: PositiveInt
    precision: Precision
    input_hw: tuple[int, int]
    accelerator: Device = "cpu"

    def __str__(self) -> str:
        height, width = self.input_hw
        return (
            f"{self.runtime} {self.runtime_version}, {self.device}, {self.threads} thread(s),"
            f" batch {self.batch}, {self.precision}, {height}x{width}"
        )


def key_of_this_machine(
    runtime: RuntimeName,
    input_hw: tuple[int, int],
    threads: int = 1,
    batch: int = 1,
    precision: Precision = "fp32",
    accelerator: Device = "cpu",
) -> Key:
    """Raises ValueError where the runtime is not installed or cannot compute so, or more threads
    are asked for than this process may have cores."""
    check_precision(runtime, precision)
    cores = len(allowed_cores())
    if not 1 <= threads <= cores:
        raise ValueError(f"threads: found {threads}, allowed are 1 to {cores}, the cores there are")
    return Key(
        device=device_name(accelerator),
        runtime=runtime,
        runtime_version=runtime_version(runtime),
        threads=threads,
        batch=batch,
        precision=precision,
        input_hw=input_hw,
        accelerator=accelerator,
    )


def measure_archs(
    archs: Sequence[Arch], key: Key, max_spread: float = MAX_SPREAD, rounds: int = ROUNDS
) -> list[Latency]:
    """Latency of each arch with random weights, in the order given; they take turns.

    Call it inside `pinned`. Raises TooNoisy in one line.
    """
    from vipnas.models.posenet import PoseNet

    for arch in archs:
        if arch.input_hw != key.input_hw:
            raise ValueError(f"input_hw: found {arch.input_hw}, allowed is {key.input_hw}")
    runs = [one_run(PoseNet(arch), (3, *key.input_hw), key) for arch in archs]
    return interleaved(runs, max_spread, rounds)


def measure_arch(arch: Arch, key: Key, max_spread: float = MAX_SPREAD) -> Latency:
    """One arch by itself, on the least busy cores, with more rounds than one of many gets."""
    with pinned(key):
        return measure_archs([arch], key, max_spread, rounds=3 * ROUNDS)[0]


def measure_beside(
    anchor: nn.Module,
    modules: Sequence[nn.Module],
    shapes_CHW: Sequence[tuple[int, int, int]],
    key: Key,
    max_spread: float = MAX_SPREAD,
    rounds: int = ROUNDS,
) -> list[Beside]:
    """As `measure_archs`, of any modules with one tensor in and one out, beside a network for the
    key's images; the weights of all change."""
    runs = [one_run(module, shape, key) for module, shape in zip(modules, shapes_CHW, strict=True)]
    return beside(one_run(anchor, (3, *key.input_hw), key), runs, max_spread, rounds)


def one_run(module: nn.Module, shape_CHW: tuple[int, int, int], key: Key) -> Callable[[], None]:
    """What is timed: the module in the key's runtime on one batch. Its weights change."""
    fill_for_timing(module)
    shape = (key.batch, *shape_CHW)
    images = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    session = _open(module, images, key)

    def run() -> None:
        session(images)

    return run


def _open(module: nn.Module, images: np.ndarray, key: Key) -> Session:
    if key.runtime in ("torch", "torch-compiled"):
        return torch_session(module, key.runtime, key.precision, key.accelerator)
    import torch

    if key.precision == "fp16" and key.runtime == "onnxruntime":
        module = HalfInside(module)
    model = to_onnx_quickly(module, torch.from_numpy(images))
    if key.precision == "int8":
        model = quantise(model, "images", images)
    return open_session(model, key.runtime, key.threads, key.precision, key.accelerator)


@contextmanager
def pinned(key: Key) -> Iterator[None]:
    """Pin this thread, and those that it starts, to the `key.threads` least busy cores.

    PyTorch gets as many threads. Open sessions inside. macOS and Windows choose the cores
    themselves.
    """
    with torch_threads(key.threads):
        if not hasattr(os, "sched_setaffinity"):
            yield
            return
        allowed = allowed_cores()
        os.sched_setaffinity(0, least_busy_cores(allowed, key.threads))
        try:
            yield
        finally:
            os.sched_setaffinity(0, allowed)
