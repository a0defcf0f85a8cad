"""A device with known milliseconds, in place of measuring: instant, the same on every machine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext

import pytest

from vipnas.arch.image import Arch
from vipnas.latency import profile
from vipnas.latency.interleaved import Latency, WithAnchor
from vipnas.latency.measure import Key
from vipnas.latency.model import layers_of
from vipnas.latency.operations import describe
from vipnas.models.posenet import Layer

KEY = Key("made up", "onnxruntime", "1.0", 1, 1, "fp32", (64, 48))


def made_up_ms(layers: Iterable[Layer]) -> float:
    """A start for each layer, and every product and element at one rate."""
    rates = {"macs": 1e5, "elements": 1e4, "count": 10.0}
    return sum(
        0.1 + amount / rates[name.rpartition(".")[2]]
        for layer in layers
        for name, amount in describe(layer).amounts.items()
    )


class MadeUpDevice:
    """Stands in for measuring in `vipnas.latency.profile`; remembers how large the batches were."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.batches: list[int] = []
        self.shapes_CHW: list[tuple[int, int, int]] = []
        self.slowness = 1.0
        monkeypatch.setattr(profile, "measure_with_anchor", self.measure_with_anchor)
        monkeypatch.setattr(profile, "Block", lambda layer: layer)
        monkeypatch.setattr(profile, "PoseNet", lambda arch: arch)
        monkeypatch.setattr(profile, "SECONDS_BETWEEN_TRIES", 0.0)
        monkeypatch.setattr(profile, "pinned", lambda key: nullcontext())
        monkeypatch.setattr(profile, "ARCHS_SAMPLED", 100)  # counting the layers of 1000 takes long

    def latency(self, layers: Iterable[Layer]) -> Latency:
        return Latency(self.slowness * made_up_ms(layers), 0.01, 12)

    def measure_with_anchor(
        self,
        anchor: Arch,
        modules: Sequence[Arch | Layer],
        shapes_CHW: Sequence[tuple[int, int, int]],
        key: Key,
        max_spread: float,
        rounds: int,
    ) -> list[WithAnchor]:
        self.batches.append(len(modules))
        assert len(shapes_CHW) == len(modules)
        self.shapes_CHW += shapes_CHW
        anchor_ms = self.latency(layers_of(anchor)).median_ms
        alone = [[x] if isinstance(x, Layer) else layers_of(x) for x in modules]
        return [WithAnchor(self.latency(layers), anchor_ms) for layers in alone]
