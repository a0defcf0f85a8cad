"""Settings of a training: compute, sampling, distillation."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from vipnas.config.limits import Threads
from vipnas.config.schedule import Schedule
from vipnas.errors import UserError
from vipnas.files import Strict


@dataclass(frozen=True)
class Compute(Strict):
    """How a training uses the hardware, mostly a GPU.

    Attributes:
        precision: `bfloat16` runs convolutions in bfloat16 by autocast. Weights, gradients, losses
            and the optimizer stay in float32. `auto` is `bfloat16` on a GPU that computes in it,
            and `float32` elsewhere.
        channels_last: Keep activations in channels-last memory format.
        compile: Compile the network by `torch.compile`, of a supernet the largest subnet only. Adds
            minutes at the start.
        cuda_graph: On one GPU, capture the forward and backward pass of a single network as a CUDA
            graph, unless it is compiled.
        fused_optimizer: Run the optimizer as one kernel.
        synchronise_batch_norm: With several processes, take batch-norm statistics over the joint
            batch, so that N processes train as one. Otherwise each process uses its own images.
        threads: Number of threads on a CPU; null times the first step and chooses. The last bits of
            weights depend on it, so that a resumed training keeps the number.
    """

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    channels_last: bool = True
    compile: bool = False
    cuda_graph: bool = True
    fused_optimizer: bool = True
    synchronise_batch_norm: bool = True
    threads: Threads | None = None


Strategy = Literal["sandwich", "uniform", "uniform_macs", "cost_balanced", "best_up", "worst_up"]

Choice = Literal["input_hw", "width", "depth", "kernel_size", "groups", "attention", "expand_ratio"]

# Strategies that train random subnets only.
RANDOM_ONLY: tuple[Strategy, ...] = ("uniform", "uniform_macs")

# Strategies that sample choices uniformly; the others sample MACs uniformly.
EVEN_CHOICES: tuple[Strategy, ...] = ("sandwich", "uniform")


@dataclass(frozen=True)
class Sampling(Strict):
    """Which subnets a training step of the supernet trains.

    - `sandwich`: the largest, `num_random` random ones, the smallest (Yu & Huang, ICCV 2019;
      BigNAS, Yu et al., ECCV 2020).
    - `uniform`: random ones alone. With `num_random` 1 this is the single path of Guo et al.
      (ECCV 2020).
    - `uniform_macs`: random ones alone, uniform in MACs: uniform choices crowd around the middle. A
      target is sampled between the smallest and the largest MACs, then the nearest of `num_draws`
      random subnets is taken.
    - `cost_balanced`: a sandwich whose random subnets are uniform in MACs.
    - `best_up`, `worst_up`: as `cost_balanced`, but the step trains the one with the lowest or the
      highest loss of the `num_candidates` nearest (AttentiveNAS, Wang et al., CVPR 2021).

    Attributes:
        strategy: One of the above.
        num_random: Number of random subnets per step.
        num_draws: Number of random subnets from which the nearest to a target is taken.
        num_candidates: Number of candidates of `best_up` and `worst_up`.
        macs_between: Smallest and largest MACs of random subnets. If none of `num_draws` is inside,
            the nearest is taken. Null takes a range near the budget of the search, if it has one
            on MACs or milliseconds. `all` does not restrict them.
    """

    strategy: Strategy = "uniform_macs"
    num_random: NonNegativeInt = 1
    num_draws: PositiveInt = 32
    num_candidates: PositiveInt = 3
    macs_between: tuple[NonNegativeInt, PositiveInt] | Literal["all"] | None = None

    def __post_init__(self) -> None:
        if self.strategy in RANDOM_ONLY and self.num_random < 1:
            hint = f"the strategy {self.strategy} trains random subnets only"
            raise UserError("num_random", "a whole number from 1", "0", hint)
        if self.num_candidates > self.num_draws:
            expected = f"at most num_draws, {self.num_draws}"
            raise UserError("num_candidates", expected, str(self.num_candidates))
        given = self.given_range
        if given is not None and given[0] > given[1]:
            raise UserError("macs_between", "two numbers, the smaller one first", str(list(given)))

    @property
    def given_range(self) -> tuple[int, int] | None:
        """The range of `macs_between` if it names one."""
        return None if self.macs_between == "all" else self.macs_between


@dataclass(frozen=True)
class ProgressiveShrinking(Strict):
    """When choices become elastic (progressive shrinking, Cai et al., ICLR 2020).

    A choice that is not elastic yet stays at the option of the largest subnet.

    Attributes:
        largest_alone_epochs: The largest subnet trains alone for so many epochs.
        order: Groups of choices that become elastic one after another. Choices that are not named
            become elastic with the last group. Empty: all at once.
        epochs_each: Epochs between one group and the next.
    """

    largest_alone_epochs: NonNegativeFloat = 0.0
    order: tuple[tuple[Choice, ...], ...] = ()
    epochs_each: NonNegativeFloat = 0.0

    def __post_init__(self) -> None:
        if bool(self.order) != (self.epochs_each > 0):
            order = [list(group) for group in self.order]
            found = f"order {order} and epochs_each {self.epochs_each:g}"
            raise UserError("", "order together with epochs_each above 0", found)

    @property
    def all_open_epoch(self) -> float:
        """Epoch from which all choices are elastic."""
        return self.largest_alone_epochs + self.epochs_each * max(0, len(self.order) - 1)

    def open_at(self, epoch: float, choices: Set[str]) -> Set[str]:
        """Return those of the choices that are elastic after `epoch` epochs, a float."""
        if epoch >= self.all_open_epoch:
            return choices
        if epoch < self.largest_alone_epochs:
            return frozenset()
        num_open = 1 + int((epoch - self.largest_alone_epochs) / self.epochs_each)
        return choices & {choice for group in self.order[:num_open] for choice in group}


@dataclass(frozen=True)
class Distillation(Strict):
    """What the smaller subnets of a step learn from: labels, the largest subnet, or both.

    Labels rank subnets best (`experiments/reports/ranking_2026-11-26.md`).

    Attributes:
        loss: `labels` ignores the largest subnet; `mse` and `kl` compare with its heatmaps.
        weight: Weight of the loss against the largest subnet.
        label_weight: Weight of the loss against the labels.
        warmup_steps: Number of steps that lead linearly from the labels alone to these weights, as
            the largest subnet has nothing to teach at first.
        temperature: Temperature of `kl`, in units of heatmap values, whose peaks are 1.
    """

    loss: Literal["labels", "mse", "kl"] = "labels"
    weight: NonNegativeFloat = 1.0
    label_weight: NonNegativeFloat = 0.0
    warmup_steps: NonNegativeInt = 0
    temperature: PositiveFloat = 0.1

    def __post_init__(self) -> None:
        if self.weight == self.label_weight == 0:
            raise UserError("weight and label_weight", "one of them above 0", "0 and 0")

    def shares(self, step: int) -> tuple[float, float]:
        """Return the weights of the teacher's loss and of the labels' loss at a step."""
        if self.loss == "labels":
            return 0.0, 1.0
        warm = min(1.0, step / self.warmup_steps) if self.warmup_steps else 1.0
        return warm * self.weight, (1 - warm) + warm * self.label_weight


@dataclass(frozen=True)
class SupernetConfig(Strict):
    """How the supernet is trained.

    Attributes:
        schedule: Length, batch size and learning rate.
        sampling: Which subnets a step trains.
        distillation: What the smaller subnets learn from.
        progressive_shrinking: When choices become elastic.
        init_from: Model to take the initial weights from: the file of a supernet or a network, or a
            published checkpoint. Null starts from random weights.
        init_arch: Architecture of a published checkpoint that does not contain it: a file or a
            shipped name. Null is the largest of the space.
    """

    RENAMED: ClassVar = {"opening": "progressive_shrinking"}

    schedule: Schedule
    sampling: Sampling = field(default_factory=Sampling)
    distillation: Distillation = field(default_factory=Distillation)
    progressive_shrinking: ProgressiveShrinking = field(default_factory=ProgressiveShrinking)
    init_from: str | None = None
    init_arch: str | None = None

    def __post_init__(self) -> None:
        if self.init_from is None and self.init_arch is not None:
            raise UserError("init_arch", "init_from with this key", "none")
        all_open_epoch = self.progressive_shrinking.all_open_epoch
        if self.schedule.epochs is None:
            if all_open_epoch > 0:
                expected = "none, as the schedule has hours and no epochs"
                raise UserError("progressive_shrinking", expected, f"epoch {all_open_epoch:g}")
        elif all_open_epoch >= self.schedule.epochs:
            expected = f"all choices elastic before epoch {self.schedule.epochs:g}, the last"
            raise UserError("progressive_shrinking", expected, f"epoch {all_open_epoch:g}")


@dataclass(frozen=True)
class RetrainConfig(Strict):
    """How a single architecture is trained.

    Attributes:
        schedule: Length, batch size and learning rate.
        init_from: `scratch` for random weights, `supernet` for those of the architecture in this
            experiment's supernet, or a model file as in `SupernetConfig`.
        init_arch: As in `SupernetConfig`. Null is the architecture that is trained.
        patience: The training ends after so many probes without a better AP, and the network with
            the best AP is kept; null trains to the end. Not for several processes.
    """

    schedule: Schedule
    init_from: str = "scratch"
    init_arch: str | None = None
    patience: PositiveInt | None = None

    @property
    def init_file(self) -> str | None:
        """The file of `init_from`; None if it is one of the two words."""
        return None if self.init_from in ("scratch", "supernet") else self.init_from
