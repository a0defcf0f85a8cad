"""Measure the latency of networks in the runtime that will run them, interleaved with others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
from pydantic import PositiveInt

from vipnas.arch.image import Arch
from vipnas.errors import UserError
from vipnas.files import Strict
from vipnas.latency.cores import least_busy_cores, on_cores
from vipnas.latency.interleaved import (
    MAX_SPREAD,
    ROUNDS,
    Latency,
    WithAnchor,
    interleaved,
    interleaved_with_anchor,
)
from vipnas.runtimes.machine import device_name, torch_threads
from vipnas.runtimes.runtime import RunSettings, Session, WriteSettings
from vipnas.runtimes.table import RUNTIMES
from vipnas.threads import allowed_cores

if TYPE_CHECKING:
    from torch import Tensor, nn

    from vipnas.models.posenet import PoseNet


@dataclass(frozen=True)
class Key(Strict):
    """Everything that a latency depends on besides the network; compare only equal keys.

    The key of a table has the largest input size of its space. Each network runs at its own.
    """

    device: str
    runtime: str
    runtime_version: str
    threads: PositiveInt
    batch: PositiveInt
    precision: str
    input_hw: tuple[int, int]
    accelerator: str = "cpu"

    @property
    def run_settings(self) -> RunSettings:
        """How a session computes under this key."""
        return RunSettings(self.threads, self.precision, self.accelerator, self.batch)

    def __str__(self) -> str:
        height, width = self.input_hw
        return (
            f"{self.runtime} {self.runtime_version}, {self.device}, {self.threads} thread(s),"
            f" batch {self.batch}, {self.precision}, {height}x{width}"
        )


def key_of_this_machine(
    runtime: str,
    input_hw: tuple[int, int],
    threads: int = 1,
    batch: int = 1,
    precision: str = "fp32",
    accelerator: str = "cpu",
) -> Key:
    """Return the key of measurements made here.

    Raises:
        UserError: If the runtime is not installed or cannot compute so, or there are fewer cores
            than threads.
    """
    row = RUNTIMES.named(runtime, "runtime")
    row.check(precision, accelerator)
    cores = len(allowed_cores())
    if not 1 <= threads <= cores:
        raise UserError("threads", f"1 to {cores}, the available cores", str(threads))
    return Key(
        device=device_name(accelerator),
        runtime=runtime,
        runtime_version=row.version(),
        threads=threads,
        batch=batch,
        precision=precision,
        input_hw=input_hw,
        accelerator=accelerator,
    )


def measure_archs(
    archs: Sequence[Arch], key: Key, max_spread: float = MAX_SPREAD, rounds: int = ROUNDS
) -> list[Latency]:
    """Measure networks with random weights, interleaved, opened the fast way of the runtime.

    Call it inside `pinned`. Raises TooNoisy.
    """
    runs = [quick_run(network_of(arch, key), (3, *key.input_hw), key) for arch in archs]
    return interleaved(runs, max_spread, rounds)


def measure_arch(arch: Arch, key: Key, max_spread: float = MAX_SPREAD) -> Latency:
    """Measure one network as it is shipped, on the least busy cores, with more rounds.

    Where the runtime runs files, the network is exported as `vipnas export` does it.
    """
    with pinned(key):
        return interleaved([_shipped_run(network_of(arch, key), key)], max_spread, 3 * ROUNDS)[0]


def measure_with_anchor(
    anchor: PoseNet,
    modules: Sequence[nn.Module],
    shapes_CHW: Sequence[tuple[int, int, int]],
    key: Key,
    max_spread: float = MAX_SPREAD,
    rounds: int = ROUNDS,
) -> list[WithAnchor]:
    """Measure any modules with one tensor in and one out, each with an anchor in the same rounds.

    As `measure_archs`. The weights of all change.
    """
    pairs = zip(modules, shapes_CHW, strict=True)
    runs = [quick_run(module, shape, key) for module, shape in pairs]
    anchor_run = quick_run(anchor, (3, *anchor.arch.input_hw), key)
    return interleaved_with_anchor(anchor_run, runs, max_spread, rounds)


def network_of(arch: Arch, key: Key) -> nn.Module:
    """Return a network; raises UserError unless its input size is that of the key."""
    from vipnas.models.posenet import PoseNet

    if arch.input_hw != key.input_hw:
        raise UserError("input_hw", str(key.input_hw), str(arch.input_hw))
    return PoseNet(arch)


def quick_run(module: nn.Module, shape_CHW: tuple[int, int, int], key: Key) -> Callable[[], None]:
    """Return one run of a module opened the quick way, to be timed. Its weights change."""
    return _run(quick_session, module, shape_CHW, key)


def _shipped_run(module: nn.Module, key: Key) -> Callable[[], None]:
    return _run(shipped_session, module, (3, *key.input_hw), key)


def _run(
    session_of: Callable[[nn.Module, np.ndarray, Key], Session],
    module: nn.Module,
    shape_CHW: tuple[int, int, int],
    key: Key,
) -> Callable[[], None]:
    fill_for_timing(module)
    shape = (key.batch, *shape_CHW)
    images = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    session = session_of(module, images, key)

    def run() -> None:
        session({"images": images})

    return run


def quick_session(module: nn.Module, images: np.ndarray, key: Key) -> Session:
    """Open a module by the quick way of the key's runtime."""
    return RUNTIMES[key.runtime].load(module, _named(images), key.run_settings)


def shipped_session(module: nn.Module, images: np.ndarray, key: Key) -> Session:
    """Export a module as it is shipped, and open the file; quickly where there are no files.

    The file is for any batch size and is opened for the key's.
    """
    file = RUNTIMES[key.runtime].file
    if file is None:
        return quick_session(module, images, key)
    stored = key.precision if key.precision in file.precisions else "fp32"
    examples = np.concatenate((images, images))  # a batch of 1 would become a constant
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"network{file.suffix}"
        module.eval().requires_grad_(False)
        file.write(module, _named(examples), path, WriteSettings(stored, calibration=images))
        return file.open(path, key.run_settings)[0]


def _named(images: np.ndarray) -> Mapping[str, Tensor]:
    import torch

    return {"images": torch.from_numpy(images)}


def fill_for_timing(module: nn.Module, seed: int = 0) -> None:
    """Fill in weights under which values keep their size from layer to layer.

    With the weights of an untrained network, values shrink to denormal numbers in deep networks,
    which processors compute ten times slower.
    """
    import torch
    from torch import nn

    from vipnas.models.elastic import ElasticConv2d, ElasticDeconv2d

    generator = torch.Generator().manual_seed(seed)
    for layer in module.modules():
        if isinstance(layer, ElasticConv2d | ElasticDeconv2d):
            fan_in = layer.weight[0].numel()
            if isinstance(layer, ElasticDeconv2d):
                # Each output pixel sees a quarter of the kernel, of the channels of one group.
                per_group = layer.weight.shape[0] // layer.groups
                fan_in = max(1, per_group * layer.weight[0, 0].numel() // 4)
            nn.init.normal_(layer.weight, 0.0, fan_in**-0.5, generator=generator)


@contextmanager
def pinned(key: Key) -> Iterator[None]:
    """Pin this thread, and those that it starts, to the least busy cores, one for each thread.

    PyTorch gets as many threads. Open sessions inside. Where the system cannot pin, nothing is.
    """
    with on_cores(least_busy_cores(allowed_cores(), key.threads)), torch_threads(key.threads):
        yield
