"""The protocol of a level of an experiment: images, or clips of a video.

`supernet`, `search`, `retrain` and `front` use it. It has two implementations,
`image_level.ImageLevel` and `clip_level.ClipLevel`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, TypeVar

from torch import nn

from vipnas.config.search import SearchConfig
from vipnas.config.training import Schedule, SupernetConfig
from vipnas.data.crops.loader import Batch, KeyedBatches
from vipnas.errors import UserError
from vipnas.evaluation.scoring import Inherited
from vipnas.models.header import HeaderMetrics
from vipnas.pipeline.experiment import Experiment
from vipnas.pipeline.run_folder import RunFolder
from vipnas.quantities import Constraint
from vipnas.search.constraints import CostOf
from vipnas.search.trial import Trial
from vipnas.space.genes import GeneSpace
from vipnas.training.step import Task

A = TypeVar("A")


class Level(Protocol[A]):
    """One level of an experiment, opened; `A` is its kind of architecture."""

    @property
    def experiment(self) -> Experiment: ...

    def of(self, experiment: Experiment) -> Level[A]:
        """Return this level of another experiment."""

    @property
    def name(self) -> str:
        """`image` or `clip`."""

    @property
    def folder(self) -> RunFolder:
        """The folder of the results of all stages."""

    @property
    def commands(self) -> str:
        """The prefix of the commands of this level: `vipnas` or `vipnas video`."""

    @property
    def space(self) -> GeneSpace[A]: ...

    @property
    def supernet_config(self) -> SupernetConfig: ...

    @property
    def search_config(self) -> SearchConfig: ...

    @property
    def budgets(self) -> tuple[Constraint, ...]:
        """The current budgets of an architecture; none without a section `search`."""

    @property
    def retrain_schedule(self) -> Schedule: ...

    @property
    def training_data(self) -> KeyedBatches[Batch]:
        """Training crops or clips, by key."""

    @property
    def sampler_seed(self) -> int | str:
        """The seed of the subnets of a step, with the number of the step."""

    def count_cost(self, arch: A) -> Any:
        """Return MACs and parameters; those of a mean frame for a clip."""

    def cost_of(self) -> tuple[CostOf[Any], dict[str, str | None]]:
        """Return the cost function of the search, and its settings for the journal."""

    def supernet(self) -> nn.Module:
        """Build the supernet that training starts from."""

    def blank(self, arch: A | None) -> nn.Module:
        """Build the module that a stage trains, without weights.

        It is the supernet or, with an architecture, the module of retraining.
        """

    def supernet_task(self, supernet: nn.Module) -> Task[A]:
        """Return the task of training the supernet."""

    def network(self, arch: A, init_from: Path | None) -> nn.Module:
        """Build what retraining trains, with the weights it starts from."""

    def network_task(self, network: nn.Module, arch: A) -> tuple[Task[A], A | None]:
        """Return the task of training that network, and the architecture to run on its weights."""

    @property
    def network_step_is_static(self) -> bool:
        """Whether a retraining step depends on its batch alone, so that a GPU may replay it."""

    def scorer(self, supernet: nn.Module, num_persons: int | None = None) -> Inherited[A]:
        """Return scores with inherited weights on the validation split, or a part of it."""

    def settings(self) -> dict[str, Any]:
        """Return all that any training of this level depends on, as plain values."""

    def supernet_settings(self) -> dict[str, Any]:
        """Return what the training of the supernet depends on besides."""

    def search_settings(self) -> dict[str, Any]:
        """Return what trials depend on besides the supernet and the section `search`."""

    def retrain_settings(self, arch: A, init_from: Path | None) -> dict[str, Any]:
        """Return what a retraining depends on besides."""

    def scoring_settings(self) -> dict[str, Any]:
        """Return what test metrics depend on besides the experiment's."""

    def initial_weights(self, init_from: Path | None) -> Path | None:
        """Return the file that retraining starts from; raises UserError if it is missing."""

    def replay_state(self) -> dict[str, Any]:
        """Return what a failed step needs, beside its network, to be computed again."""

    def save_supernet(self, path: Path, supernet: nn.Module) -> None: ...

    def load_supernet(self, path: Path) -> nn.Module: ...

    def save_network(self, path: Path, network: nn.Module, arch: A) -> None:
        """Calibrate a retrained network and write it."""

    def save_best(
        self, path: Path, network: nn.Module, arch: A | None, metrics: HeaderMetrics
    ) -> None:
        """Write a network in training, as it is; without an architecture it is the supernet."""

    def test_metrics(self, path: Path) -> dict[str, Any]:
        """Return the metrics of a retrained network on the test split, as plain values."""

    def read_arch(self, path: Path) -> A:
        """Read an architecture; raises UserError unless it is in the space."""

    def parse_arch(self, text: str, where: str) -> A:
        """Read an architecture from JSON."""

    def write_arch(self, path: Path, arch: A, **found: Any) -> None: ...

    def write_trial(self, path: Path, best: Trial, **found: Any) -> None:
        """Write the architecture of a search's winner, and what is known of it."""


def supernet_file(level: Level[Any]) -> Path:
    return level.folder.supernet / "supernet.safetensors"


def existing_supernet(level: Level[Any]) -> Path:
    """Return the trained supernet; raises UserError if there is none yet."""
    file = supernet_file(level)
    if not file.exists():
        hint = f"run `{level.commands} train-supernet` first"
        raise UserError(str(file), "a supernet", "none", hint)
    return file


def best_file(level: Level[Any], method: str | None = None) -> Path:
    """Return the architecture that a method found; by default the experiment's searcher."""
    name = "random_best.json" if method == "random" else "best.json"
    return level.folder.search / name


def existing_best(level: Level[Any]) -> Path:
    """Return the best architecture; raises UserError if nothing was searched yet."""
    file = best_file(level)
    if not file.exists():
        hint = f"run `{level.commands} search` first or give --arch"
        raise UserError(str(file), "the architecture of a search", "none", hint)
    return file


def network_file(level: Level[Any]) -> Path:
    """Return the file of the retrained network."""
    return level.folder.retrain / "network.safetensors"
