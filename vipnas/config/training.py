"""How networks are trained: schedule, compute, sampling, distillation."""

from __future__ import annotations

import math
from collections.abc import Set
from dataclasses import dataclass, field
from typing import Literal

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from vipnas.files import Strict


@dataclass(frozen=True)
class Schedule(Strict):
    """How long, how fast. The learning rate warms up linearly, then falls by a cosine to zero or by
    steps.

    `drop_at` are shares of the run (0..1) at which the rate of schedule `step` falls to a tenth.
    `batch_size` is that of all processes together. `clip_norm` is the largest norm of the gradient
    of all weights together; null lets every gradient through. `average_decay` is that of the
    averaged weights, which are what is scored and kept.
    """

    epochs: float
    batch_size: int
    learning_rate: float
    warmup_steps: int = 100
    decay: Literal["cosine", "step"] = "cosine"
    drop_at: tuple[float, ...] = (170 / 210, 200 / 210)
    weight_decay: float = 0.0
    clip_norm: float | None = None
    average_decay: float = 0.998

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "learning_rate", "clip_norm"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name}: found {value}, allowed are numbers above 0")
        for name in ("warmup_steps", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}: found {getattr(self, name)}, allowed are 0 and above")
        if not all(0 <= share <= 1 for share in self.drop_at):
            raise ValueError(f"drop_at: found {self.drop_at}, allowed are shares of the run, 0..1")
        if not 0 <= self.average_decay < 1:
            raise ValueError(f"average_decay: found {self.average_decay}, allowed is 0 to below 1")

    def num_steps(self, num_persons: int) -> int:
        return self.num_steps_of(self.epochs, num_persons)

    def num_steps_of(self, epochs: float, num_persons: int) -> int:
        return max(1, round(epochs * num_persons / self.batch_size))

    def learning_rate_at(self, step: int, num_steps: int) -> float:
        warm = min(1.0, (step + 1) / max(1, self.warmup_steps))
        progress = step / num_steps
        if self.decay == "cosine":
            return self.learning_rate * warm * (1 + math.cos(math.pi * progress)) / 2
        drops = sum(progress >= drop for drop in self.drop_at)
        return float(self.learning_rate * warm * 0.1**drops)


@dataclass(frozen=True)
class Compute(Strict):
    """What a GPU wants; on a CPU the defaults change nothing.

    `precision`: bfloat16 runs convolutions in it, by autocast; weights, their gradients, losses and
    the optimiser stay float32. `channels_last`: the memory order of activations. `compile`: the
    network as it was built, that is the largest member of a supernet, by `torch.compile`; it takes
    minutes at the start. `cuda_graph`: on one GPU, the forward and backward pass of a network that
    is trained by itself, where it is not compiled, as one CUDA graph. `fused_optimizer`: on a GPU,
    the optimiser as one kernel.
    `synchronise_batch_norm`: with several processes, statistics are those of the joint batch, so
    that N processes train as one would; without it each normalises by its own images.
    """

    precision: Literal["float32", "bfloat16"] = "float32"
    channels_last: bool = True
    compile: bool = False
    cuda_graph: bool = True
    fused_optimizer: bool = True
    synchronise_batch_norm: bool = True


Strategy = Literal["sandwich", "uniform", "uniform_macs", "cost_balanced", "best_up", "worst_up"]

Choice = Literal["width", "depth", "kernel_size", "groups", "attention", "expand_ratio"]

# Of these a step trains the random members alone.
RANDOM_ONLY: tuple[Strategy, ...] = ("uniform", "uniform_macs")

# Of these every choice is drawn evenly; of the others MACs are.
EVEN_CHOICES: tuple[Strategy, ...] = ("sandwich", "uniform")


@dataclass(frozen=True)
class Sampling(Strict):
    """Which subnets a step trains.

    - `sandwich`: largest, `num_random` random ones, smallest (Yu & Huang, ICCV 2019; BigNAS, Yu et
      al., ECCV 2020).
    - `uniform`: the random ones alone, on the labels; with `num_random` 1 the single path of Guo et
      al. (ECCV 2020).
    - `uniform_macs`: so too, but spread evenly over MACs; choices drawn evenly crowd around the
      middle. A target is drawn evenly between the smallest and the largest cost; of `num_draws`
      archs the nearest is taken.
    - `cost_balanced`: a sandwich whose random ones are spread over MACs like that.
    - `best_up`, `worst_up`: so too, but of the `num_candidates` nearest the step trains the one
      with the lowest or the highest loss (AttentiveNAS, Wang et al., CVPR 2021).

    With `macs_between`, (at least, at most), the random ones have MACs within that range (and where
    none of `num_draws` has, the nearest): where a budget is known, shared weights need not serve
    what no search will look at.
    """

    strategy: Strategy = "uniform_macs"
    num_random: NonNegativeInt = 1
    num_draws: PositiveInt = 32
    num_candidates: PositiveInt = 3
    macs_between: tuple[NonNegativeInt, PositiveInt] | None = None

    def __post_init__(self) -> None:
        if self.strategy in RANDOM_ONLY and self.num_random < 1:
            raise ValueError(
                f"num_random: found 0, of strategy {self.strategy} allowed is 1 or more"
            )
        if self.num_candidates > self.num_draws:
            raise ValueError(
                f"num_candidates: found {self.num_candidates}, allowed is up to num_draws,"
                f" {self.num_draws}"
            )
        if self.macs_between is not None and self.macs_between[0] > self.macs_between[1]:
            raise ValueError(
                f"macs_between: found {list(self.macs_between)}, allowed are two numbers, the"
                " smaller one first"
            )


@dataclass(frozen=True)
class ProgressiveShrinking(Strict):
    """When the choices open. A closed choice stays at the option of the largest.

    The largest trains alone for `largest_alone_epochs`; then all choices open at once, or, with an
    `order`, its groups of choices one after another, `epochs_each` apart (progressive shrinking,
    Cai et al., ICLR 2020). What `order` does not name opens with its last group.
    """

    largest_alone_epochs: NonNegativeFloat = 0.0
    order: tuple[tuple[Choice, ...], ...] = ()
    epochs_each: NonNegativeFloat = 0.0

    def __post_init__(self) -> None:
        if bool(self.order) != (self.epochs_each > 0):
            raise ValueError(
                f"found order {[list(group) for group in self.order]} with epochs_each"
                f" {self.epochs_each}: allowed are both or neither"
            )

    @property
    def all_open_epoch(self) -> float:
        """From here on nothing is closed."""
        return self.largest_alone_epochs + self.epochs_each * max(0, len(self.order) - 1)

    def open_at(self, epoch: float, choices: Set[str]) -> Set[str]:
        """Those of the choices that are open when `epoch` epochs, or a part of one, are over."""
        if epoch >= self.all_open_epoch:
            return choices
        if epoch < self.largest_alone_epochs:
            return frozenset()
        num_open = 1 + int((epoch - self.largest_alone_epochs) / self.epochs_each)
        return choices & {choice for group in self.order[:num_open] for choice in group}


@dataclass(frozen=True)
class Distillation(Strict):
    """What the smaller subnets of a step learn: from the labels, from the largest, or from both.

    With `labels` from these alone, which ranks best (`experiments/reports/ranking_2026-11-26.md`).
    Else their loss is `weight` times `mse` or `kl` to the heatmaps of the largest, plus
    `label_weight` times the loss on the labels. During the first `warmup_steps`, while the largest
    has nothing to teach, it goes over in a straight line to this from the labels alone.
    `temperature` is that of `kl`, in units of heatmap values, whose peaks are 1.
    """

    loss: Literal["labels", "mse", "kl"] = "labels"
    weight: NonNegativeFloat = 1.0
    label_weight: NonNegativeFloat = 0.0
    warmup_steps: NonNegativeInt = 0
    temperature: PositiveFloat = 0.1

    def __post_init__(self) -> None:
        if self.weight == self.label_weight == 0:
            raise ValueError("weight and label_weight: found 0 for both, one must be above 0")

    def shares(self, step: int) -> tuple[float, float]:
        """Weights of the teacher's loss and of the labels' at a step."""
        if self.loss == "labels":
            return 0.0, 1.0
        warm = min(1.0, step / self.warmup_steps) if self.warmup_steps else 1.0
        return warm * self.weight, (1 - warm) + warm * self.label_weight


@dataclass(frozen=True)
class SupernetConfig(Strict):
    """How the supernet is trained: for how long, on which subnets, what they learn, from when."""

    schedule: Schedule
    sampling: Sampling = field(default_factory=Sampling)
    distillation: Distillation = field(default_factory=Distillation)
    progressive_shrinking: ProgressiveShrinking = field(default_factory=ProgressiveShrinking)

    def __post_init__(self) -> None:
        all_open_epoch = self.progressive_shrinking.all_open_epoch
        if all_open_epoch >= self.schedule.epochs:
            raise ValueError(
                f"progressive_shrinking: all is open after {all_open_epoch:g} epochs, allowed is"
                f" less than the {self.schedule.epochs:g} of the schedule"
            )


@dataclass(frozen=True)
class RetrainConfig(Strict):
    """`init_from`: scratch, or the weights that the arch has in the supernet of this experiment."""

    schedule: Schedule
    init_from: Literal["scratch", "supernet"] = "scratch"


@dataclass(frozen=True)
class Monitoring(Strict):
    """How a training is looked at, which changes nothing in it.

    Every `probe_epochs` (null: never) the AP of the largest, the smallest and `random_probes` other
    members is measured on `probe_persons` of the people held out for the search, batch norm
    calibrated on at most as many training crops; the best mean is kept as `best.safetensors`.
    Without probes the best is that of the lowest mean training loss at the end of an epoch.
    """

    probe_epochs: PositiveFloat | None = 1.0
    probe_persons: PositiveInt = 100
    random_probes: NonNegativeInt = 2
