"""Fills a table: measures members of a space, then single layers of theirs; goes on where it was
killed.
"""

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
from vipnas.latency.interleaved import MAX_SPREAD, ROUNDS, Beside, Latency, TooNoisy
from vipnas.latency.measure import Key, measure_beside, pinned
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
from vipnas.models.blocks import HeatmapConv
from vipnas.models.posenet import Layer, PoseNet, plan
from vipnas.space.image import SearchSpace

# So many are open at once and take turns, beside the anchor, for so many rounds: some seconds, in
# which whatever else the machine does comes and goes. There are few networks and each says more
# than a layer does, so that they are measured more thoroughly.
ARCHS_AT_ONCE = 10
ARCH_ROUNDS = 15
# So many are drawn to see which layers are common; none of them is measured.
ARCHS_LOOKED_AT = 1000
BLOCKS_AT_ONCE = 20
# A noisy moment passes: a batch is measured again so often, after so many seconds.
TRIES = 5
SECONDS_BETWEEN_TRIES = 3.0

Show = Callable[[str], None]
Timed = TypeVar("Timed", Latency, Beside)


@dataclass(frozen=True)
class Profile:
    """How much of a space is measured. `seed` draws the archs and the layers.

    `evenly` is the part of the archs (0..1) that is spread evenly from the smallest to the largest:
    a search with a tight budget looks where uniform draws hardly ever fall. The rest is drawn as
    `space.sample` draws.
    """

    num_archs: int = 120
    num_blocks: int = 1000
    seed: int = 0
    evenly: float = 0.5
    max_spread: float = MAX_SPREAD


def profile_space(
    space: SearchSpace, key: Key, path: Path, amount: Profile, show: Show = print
) -> Table:
    """Measure into the table at `path`, which is whole after every batch, and choose how it
    predicts best.

    Raises ValueError for a table of something else, TooNoisy where the machine stays noisy.
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
            show(f"{len(table.archs)}/{len(archs)} archs; the last: {timings[-1].latency}")
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
            raise ValueError(
                f"{path}: {name}: made with {found!r}, asked for is {wanted!r}; give that, or"
                " another --output"
            )
    return table


def profiled_archs(space: SearchSpace, amount: Profile) -> list[Arch]:
    """Different members; fewer than asked for where the space has not so many."""
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
    """Different layers of members of the space, as (arch, number of the layer in its plan).

    First, for each convolution with a kernel larger than 1 x 1, the commonest first, the commonest
    layer that has it: runtimes have fast ways for some shapes of those and none for others, and no
    rule says for which. Then the commonest of the other layers. Which archs are measured plays no
    part, so that cross-validation over them knows no more of a layer than of any.
    """
    places: dict[Layer, tuple[Arch, int]] = {}
    commonness: Counter[Layer] = Counter()
    for arch in profiled_archs(space, Profile(ARCHS_LOOKED_AT, seed=seed)):
        for number, layer in enumerate(plan(arch)):
            bare = layer._replace(name="")
            places.setdefault(bare, (arch, number))
            commonness[bare] += 1
    layer_with: dict[Operation, Layer] = {}
    uses: Counter[Operation] = Counter()
    for layer, count in commonness.most_common():
        for operation in describe(layer).operations:
            if operation.kernel_size > 1:
                layer_with.setdefault(operation, layer)
                uses[operation] += count
    first = [layer_with[operation] for operation, _ in uses.most_common()]
    chosen = dict.fromkeys([*first, *(layer for layer, _ in commonness.most_common())])
    return [places[layer] for layer in chosen][:num_layers]


def anchor_of(space: SearchSpace) -> Arch:
    """The member in the middle of every choice."""
    return space.decode([count // 2 for count in space.num_options])


class Block(nn.Module):
    """One layer as a network.

    Of what comes out only the means over the image leave it: inside a network a layer hands over
    nothing, and OpenVINO's way out of its layout may take ten times as long as the layer. The last
    layer of a network gives all of it, as it does there.
    """

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.layer = layer.build()
        self.arch = layer.arch

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x, self.arch)
        return out if isinstance(self.layer, HeatmapConv) else F.adaptive_avg_pool2d(out, 1)


class _Bench:
    """Measures batches beside the anchor."""

    def __init__(self, anchor: Arch, key: Key, max_spread: float) -> None:
        self.anchor = anchor
        self.key = key
        self.max_spread = max_spread

    def archs(self, archs: Sequence[Arch], show: Show) -> list[ArchTiming]:
        networks = [PoseNet(arch) for arch in archs]
        shapes = [(3, *self.key.input_hw)] * len(archs)
        found = self._beside(networks, shapes, ARCH_ROUNDS, show)
        return [
            ArchTiming(arch=arch, latency=latency, anchor_ms=anchor_ms)
            for arch, (latency, anchor_ms) in zip(archs, found, strict=True)
        ]

    def blocks(self, places: Sequence[tuple[Arch, int]], show: Show) -> list[BlockTiming]:
        layers = [list(plan(arch))[number] for arch, number in places]
        shapes = [(x.in_channels, *x.in_hw) for x in layers]
        found = self._beside([Block(layer) for layer in layers], shapes, ROUNDS, show)
        return [
            BlockTiming(latency, anchor_ms, *place)
            for place, (latency, anchor_ms) in zip(places, found, strict=True)
        ]

    def _beside(
        self,
        modules: Sequence[nn.Module],
        shapes_CHW: Sequence[tuple[int, int, int]],
        rounds: int,
        show: Show,
    ) -> list[Beside]:
        def measure() -> list[Beside]:
            anchor = PoseNet(self.anchor)
            return measure_beside(anchor, modules, shapes_CHW, self.key, self.max_spread, rounds)

        return retry_if_noisy(measure, show)


def retry_if_noisy(measure: Callable[[], list[Timed]], show: Show) -> list[Timed]:
    """Measure again where it was too noisy; raises TooNoisy where it stays so."""
    for _ in range(TRIES - 1):
        try:
            return measure()
        except TooNoisy as error:
            show(f"again in {SECONDS_BETWEEN_TRIES:.0f} s: {error}")
            time.sleep(SECONDS_BETWEEN_TRIES)
    return measure()
