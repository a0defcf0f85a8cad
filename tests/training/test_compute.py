"""How a step is computed changes what it costs, not what it is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from networks_fixture import of_depth_1
from torch import Tensor
from training_fixture import batch_of, codec_of, sampler_of, supernet_of

from vipnas.arch.image import Arch
from vipnas.config.schedule import Schedule
from vipnas.config.training import Compute
from vipnas.data.crops.crops import normalise
from vipnas.models import compiler
from vipnas.models.posenet import PoseNet
from vipnas.runtimes import torch_compiled
from vipnas.runtimes.runtime import RunSettings
from vipnas.space.image import SearchSpace
from vipnas.training.compute import Forward, make_forward, resolved
from vipnas.training.loop import Training
from vipnas.training.step import ImageTask, supernet_backward


def images_of(space: SearchSpace) -> Tensor:
    """As the loader makes them: channels last."""
    return normalise(batch_of(space, 0)[0]).contiguous(memory_format=torch.channels_last)


def outcome(network: PoseNet, forward: Forward, *inputs: Any) -> dict[str, Tensor]:
    network.zero_grad()
    heatmaps = forward(*inputs)
    heatmaps.square().mean().backward()
    gradients = {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}
    return {"heatmaps": heatmaps.detach(), **gradients}


def test_on_a_cpu_the_defaults_change_no_bit(tiny_space: SearchSpace) -> None:
    network, images = supernet_of(tiny_space).train(), images_of(tiny_space)
    forward = make_forward(network, Compute())
    for arch in (None, tiny_space.max_arch(), tiny_space.min_arch()):
        plain = outcome(network, network, images, arch)
        found = outcome(network, forward, images, arch)
        assert found.keys() == plain.keys()
        assert all(torch.equal(found[name], plain[name]) for name in plain)


@pytest.mark.parametrize(
    ("device", "computes_in_it", "expected"),
    [("cuda", True, "bfloat16"), ("cuda", False, "float32"), ("cpu", True, "float32")],
)
def test_the_precision_of_auto(
    monkeypatch: pytest.MonkeyPatch, device: str, computes_in_it: bool, expected: str
) -> None:
    """Emulation does not count, as it is slow."""
    asked: list[bool] = []

    def is_supported(including_emulation: bool) -> bool:
        asked.append(including_emulation)
        return computes_in_it

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", is_supported)
    assert resolved(Compute(), torch.device(device)).precision == expected
    assert asked == ([False] if device == "cuda" else [])
    given = Compute(precision="float32")
    assert resolved(given, torch.device(device)) == given


def test_the_memory_order_is_as_asked_for(tiny_space: SearchSpace) -> None:
    class Looks(PoseNet):
        def forward(self, images_B3HW: Tensor, arch: Arch | None = None) -> Tensor:
            seen.append(images_B3HW.stride(1))
            return super().forward(images_B3HW, arch)

    seen: list[int] = []
    network, images = Looks(tiny_space.max_arch()), images_of(tiny_space)
    pixels = images.shape[2] * images.shape[3]
    for given in (images, images.contiguous()):
        make_forward(network, Compute(channels_last=True))(given, None)
        make_forward(network, Compute(channels_last=False))(given, None)
    assert seen == [1, pixels, 1, pixels]


def test_bfloat16_gives_float32_heatmaps_and_gradients_near_those_of_float32(
    tiny_space: SearchSpace,
) -> None:
    network, images = supernet_of(tiny_space).train(), images_of(tiny_space)
    arch = tiny_space.min_arch()
    exact = outcome(network, make_forward(network, Compute()), images, arch)
    reduced = make_forward(network, Compute(precision="bfloat16"))
    found = outcome(network, reduced, images, arch)
    assert {tensor.dtype for tensor in found.values()} == {torch.float32}
    difference = (found["heatmaps"] - exact["heatmaps"]).norm() / exact["heatmaps"].norm()
    assert 1e-5 < difference < 0.05  # it did run in another precision, and bfloat16 has 8 bits
    assert found.keys() == exact.keys()


@pytest.mark.timeout(180)  # the compiler takes seconds, on a busy machine many
def test_only_what_is_static_is_compiled_and_it_computes_the_same(
    tiny_space: SearchSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[int] = []

    def compile_(network: PoseNet) -> Any:
        whole = original(network, backend="aot_eager")

        def run(images: Tensor) -> Any:
            compiled.append(1)
            return whole(images)

        return run

    original = torch.compile
    monkeypatch.setattr("torch.compile", compile_)
    monkeypatch.setattr("vipnas.training.compute.check_compiler", lambda *_: None)
    torch.manual_seed(0)
    network = PoseNet(of_depth_1(tiny_space.max_arch())).eval()
    images, forward = images_of(tiny_space), make_forward(network, Compute(compile=True))
    for arch, times in ((None, 1), (network.arch, 2), (tiny_space.min_arch(), 2)):
        found = outcome(network, forward, images, arch)
        assert len(compiled) == times
        plain = outcome(network, network, images, arch)
        for name in plain:
            torch.testing.assert_close(found[name], plain[name], rtol=1e-4, atol=1e-6, msg=name)


NO_COMPILER = "InvalidCxxCompiler: No working C++ compiler found"


@pytest.fixture
def without_compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As it is on a machine that has none, by the many lines of PyTorch."""

    def run(*_: Any) -> Any:
        raise RuntimeError(f"{NO_COMPILER}\n\nSet TORCHDYNAMO_VERBOSE=1\n" + "frame\n" * 111)

    compiler._why_not.cache_clear()
    monkeypatch.setattr("torch.compile", lambda module: run)
    yield
    compiler._why_not.cache_clear()


def test_without_a_compiler_it_is_one_line_before_anything_is_trained(
    tiny_space: SearchSpace, without_compiler: None
) -> None:
    network = supernet_of(tiny_space)
    make_forward(network, Compute())
    line = f"expected a compiler that torch.compile can use, got {NO_COMPILER} (install g++, or "
    with pytest.raises(ValueError, match=f"^compute.compile: {re.escape(line)}") as error:
        make_forward(network, Compute(compile=True))
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=f"^runtime torch-compiled: {re.escape(line)}"):
        torch_compiled.load(network, {}, RunSettings())


@pytest.mark.slow
def test_the_compiler_that_is_missing_is_found_missing(tmp_path: Path) -> None:
    """By PyTorch itself, in a process of its own."""
    command = (
        "import torch; from vipnas.models.compiler import check_compiler\n"
        "check_compiler('here', torch.device('cpu'))"
    )
    places = {**os.environ, "CXX": "no-such-compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", command],
        capture_output=True,
        text=True,
        env={**os.environ, **places},
    )
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(
        "vipnas.errors.UserError: here: expected a compiler that torch.compile can use, got "
    )
    assert "no-such-compiler" in last


@pytest.mark.gpu
def test_the_host_never_waits_for_the_gpu_in_a_step(tiny_space: SearchSpace) -> None:
    """Any call that would wait raises an error."""
    supernet = supernet_of(tiny_space).cuda()
    compute = Compute(precision="bfloat16")
    forward = make_forward(supernet, compute)
    backward = supernet_backward(ImageTask(forward, codec_of(tiny_space)), sampler_of(tiny_space))
    schedule = Schedule(epochs=1, batch_size=2, learning_rate=1e-3, clip_norm=1.0)
    training = Training(supernet.train(), schedule, 8, compute)
    batches = [training._on_device(batch_of(tiny_space, step)) for step in range(6)]
    for step, batch in enumerate(batches):
        torch.cuda.set_sync_debug_mode("error" if step >= 2 else "default")
        try:
            training._update(backward, batch)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        training.step += 1
    training.finite.confirm()
