"""Fill a latency table: measure subnets of a space, then single layers; resumes after a kill."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from torch import Tensor, nn
from torch.nn import functional as F

import vipnas
from vipnas.arch.image import Arch
from vipnas.errors import UserError
from vipnas.latency.interleaved import MAX_SPREAD, ROUNDS, Latency, TooNoisy, WithAnchor
from vipnas.latency.measure import Key, measure_with_anchor, pinned
from vipnas.latency.operations import Operation, describe
from vipnas.latency.predictors import cross_validate
from vipnas.latency.table import (
    TABLE_VERSION,
    ArchTiming,
    BlockTiming,
    Table,
    check_table,
    read_table,
    write_table,
)
from vipnas.models.blocks import HeatmapConv, SimccHead
from vipnas.models.posenet import Layer, PoseNet, plan
from vipnas.space.image import SearchSpace

# How many networks and layers are timed together, interleaved with the anchor. Networks get more
# rounds, because they are few and each carries more information.
ARCHS_AT_ONCE = 10
ARCH_ROUNDS = 15
# The architectures that are sampled to count layers; none of them is measured.
ARCHS_SAMPLED = 1000
MIN_ARCHS = 2
BLOCKS_AT_ONCE = 20
# A noisy batch is measured again.
TRIES = 5
SECONDS_BETWEEN_TRIES = 3.0

Show = Callable[[str], None]
Timed = TypeVar("Timed", Latency, WithAnchor)


@dataclass(frozen=True)
class Profile:
    """How much of a space is measured.

    Attributes:
        num_archs: Networks.
        num_blocks: Single layers.
        seed: Samples the networks and the layers.
        evenly: The part of the networks (0..1) that is spread evenly from the smallest to the
            largest, where uniform samples are rare. The rest is sampled uniformly.
        max_spread: The largest accepted spread of a latency.
    """

    num_archs: int = 120
    num_blocks: int = 1000
    seed: int = 0
    evenly: float = 0.5
    max_spread: float = MAX_SPREAD

    def __post_init__(self) -> None:
        if self.num_archs < MIN_ARCHS:
            expected = f"a whole number from {MIN_ARCHS}"
            hint = "one network is predicted from the others"
            raise UserError("num_archs", expected, str(self.num_archs), hint)


def profile_space(
    space: SearchSpace, key: Key, path: Path, amount: Profile, show: Show = print
) -> Table:
    """Measure a space into the table at `path`, and choose the method that it predicts by.

    The table is written after every batch.

    Raises:
        UserError: If there is a table of something else at `path`.
        TooNoisy: If the machine stays noisy.
    """
    table = _open(space, key, path, amount)
    archs = profiled_archs(space, amount)
    layers = profiled_layers(space, amount.num_blocks, amount.seed)
    bench = _Bench(anchor_of(space), key, amount.max_spread)
    with pinned(key):
        while len(table.archs) < len(archs):
            batch = archs[len(table.archs) :][:ARCHS_AT_ONCE]
            timings = bench.archs(batch, show)
            table = replace(table, archs=(*table.archs, *timings))
            write_table(path, table)
            count = f"{len(table.archs)}/{len(archs)} architectures"
            show(f"{count}; the last: {timings[-1].latency}")
        while len(table.blocks) < len(layers):
            chosen = layers[len(table.blocks) :][:BLOCKS_AT_ONCE]
            blocks = bench.blocks(chosen, show)
            table = replace(table, blocks=(*table.blocks, *blocks))
            write_table(path, table)
            show(f"{len(table.blocks)}/{len(layers)} blocks; the last: {blocks[-1].latency}")
    if table.choice is None:
        table = replace(table, choice=cross_validate(table))
        write_table(path, table)
    return table


def _open(space: SearchSpace, key: Key, path: Path, amount: Profile) -> Table:
    empty = Table(
        version=TABLE_VERSION,
        vipnas=vipnas.__version__,
        key=key,
        space_name=space.name,
        space=space.to_plain(),
        seed=amount.seed,
        evenly=amount.evenly,
        num_archs=amount.num_archs,
        num_blocks=amount.num_blocks,
    )
    if not path.exists():
        return empty
    table = read_table(path)
    check_table(path, table, key, space)
    for name in ("vipnas", "seed", "evenly", "num_archs", "num_blocks"):
        found, wanted = getattr(table, name), getattr(empty, name)
        if found != wanted:
            hint = "give that, or another --output"
            raise UserError(f"{path}: {name}", repr(wanted), repr(found), hint)
    return table


def profiled_archs(space: SearchSpace, amount: Profile) -> list[Arch]:
    """Return distinct architectures of the space, or all if it has fewer."""
    rng = random.Random(f"profile-{amount.seed}")
    archs: dict[Arch, None] = {}
    for _ in range(100 * amount.num_archs):
        if len(archs) == min(amount.num_archs, space.size):
            break
        evenly = rng.random() < amount.evenly
        archs[_of_some_size(space, rng) if evenly else space.sample(rng)] = None
    return list(archs)


def _of_some_size(space: SearchSpace, rng: random.Random) -> Arch:
    size = rng.random()
    genes = [sum(rng.random() < size for _ in range(count - 1)) for count in space.num_options]
    return space.decode(genes)


def profiled_layers(space: SearchSpace, num_layers: int, seed: int) -> list[tuple[Arch, int]]:
    """Return distinct layers of the space, as (architecture, number of the layer in its plan).

    First the most frequent layer with each convolution larger than 1 x 1, by the convolution's
    frequency: runtimes have fast kernels for some of their shapes, by no rule. Then the most
    frequent other layers. The measured architectures do not matter, so that cross-validation over
    them is fair.
    """
    places: dict[Layer, tuple[Arch, int]] = {}
    frequency: Counter[Layer] = Counter()
    for arch in profiled_archs(space, Profile(ARCHS_SAMPLED, seed=seed)):
        for number, layer in enumerate(plan(arch)):
            bare = layer._replace(name="")
            places.setdefault(bare, (arch, number))
            frequency[bare] += 1
    layer_with: dict[Operation, Layer] = {}
    uses: Counter[Operation] = Counter()
    for layer, count in frequency.most_common():
        for operation in describe(layer).operations:
            if operation.kernel_size > 1:
                layer_with.setdefault(operation, layer)
                uses[operation] += count
    first = [layer_with[operation] for operation, _ in uses.most_common()]
    chosen = dict.fromkeys([*first, *(layer for layer, _ in frequency.most_common())])
    return [places[layer] for layer in chosen][:num_layers]


def anchor_of(space: SearchSpace) -> Arch:
    """Return the architecture in the middle of every choice."""
    return space.decode([count // 2 for count in space.num_options])


class Block(nn.Module):
    """A single layer as a network.

    Its output is averaged over the image, unless it is a network's last layer. Returning all of it
    would convert OpenVINO's layout, which may take ten times as long as the layer, and does not
    happen inside a network.
    """

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.layer = layer.build()
        self.arch = layer.arch

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x, self.arch)
        is_last = isinstance(self.layer, (HeatmapConv, SimccHead))
        return out if is_last else F.adaptive_avg_pool2d(out, 1)


class _Bench:
    """Measures batches with the anchor."""

    def __init__(self, anchor: Arch, key: Key, max_spread: float) -> None:
        self.anchor = anchor
        self.key = key
        self.max_spread = max_spread

    def archs(self, archs: Sequence[Arch], show: Show) -> list[ArchTiming]:
        networks = [PoseNet(arch) for arch in archs]
        shapes = [(3, *arch.input_hw) for arch in archs]
        found = self._measure(networks, shapes, ARCH_ROUNDS, show)
        return [
            ArchTiming(arch=arch, latency=latency, anchor_ms=anchor_ms)
            for arch, (latency, anchor_ms) in zip(archs, found, strict=True)
        ]

    def blocks(self, places: Sequence[tuple[Arch, int]], show: Show) -> list[BlockTiming]:
        layers = [list(plan(arch))[number] for arch, number in places]
        shapes = [(x.in_channels, *x.in_hw) for x in layers]
        found = self._measure([Block(layer) for layer in layers], shapes, ROUNDS, show)
        return [
            BlockTiming(latency, anchor_ms, *place)
            for place, (latency, anchor_ms) in zip(places, found, strict=True)
        ]

    def _measure(
        self,
        modules: Sequence[nn.Module],
        shapes_CHW: Sequence[tuple[int, int, int]],
        rounds: int,
        show: Show,
    ) -> list[WithAnchor]:
        def measure() -> list[WithAnchor]:
            anchor = PoseNet(self.anchor)
            return measure_with_anchor(
                anchor, modules, shapes_CHW, self.key, self.max_spread, rounds
            )

        return retry_if_noisy(measure, show)


def retry_if_noisy(measure: Callable[[], list[Timed]], show: Show) -> list[Timed]:
    """Measure, again if it is too noisy; raises TooNoisy if it stays so."""
    for _ in range(TRIES - 1):
        try:
            return measure()
        except TooNoisy as error:
            show(f"retry in {SECONDS_BETWEEN_TRIES:.0f} s: {error}")
            time.sleep(SECONDS_BETWEEN_TRIES)
    return measure()
