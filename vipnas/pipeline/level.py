"""A level of an experiment: images (`ImageLevel`), or clips of a video (`ClipLevel`).

`supernet`, `search`, `retrain` and `front` are written against `Level`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from torch import nn

from vipnas.arch.io import read_arch_as, write_arch
from vipnas.config.clip import VideoConfig
from vipnas.config.experiment import ExperimentConfig
from vipnas.config.schedule import Schedule
from vipnas.config.search import SearchConfig
from vipnas.config.teacher import Stage
from vipnas.config.training import SupernetConfig
from vipnas.data.crops.loader import Batch, KeyedBatches
from vipnas.errors import UserError
from vipnas.evaluation.scoring import Inherited
from vipnas.files import check_is_file, parse_json, to_plain
from vipnas.models.file import write_model
from vipnas.models.header import HeaderMetrics
from vipnas.pipeline.experiment import Experiment
from vipnas.pipeline.model_header import header_of
from vipnas.pipeline.run_folder import RunFolder
from vipnas.pipeline.work import needed
from vipnas.quantities import Constraint, Cost
from vipnas.search.constraints import CostOf
from vipnas.search.trial import Trial
from vipnas.space.genes import GeneSpace
from vipnas.training.step import Task

A = TypeVar("A")


@dataclass(frozen=True)
class Level(ABC, Generic[A]):
    """One level of an experiment, opened; `A` is its kind of architecture.

    Attributes:
        name: `image` or `clip`.
        commands: The prefix of its commands: `vipnas` or `vipnas video`.
        sections: The prefix of its sections in the experiment: none or `video.`.
        arch_type: The class of its architectures.
    """

    experiment: Experiment
    name: ClassVar[str]
    commands: ClassVar[str]
    sections: ClassVar[str]
    arch_type: ClassVar[type[Any]]

    @property
    @abstractmethod
    def config(self) -> ExperimentConfig | VideoConfig:
        """What holds the sections `supernet`, `search` and `retrain` of this level."""

    def at(self, arch: A) -> Level[A]:
        """Return the level for one architecture by itself, with crops of its (largest) size."""
        return self

    @property
    @abstractmethod
    def folder(self) -> RunFolder:
        """The folder of the results of all stages."""

    @property
    @abstractmethod
    def space(self) -> GeneSpace[A]: ...

    @property
    @abstractmethod
    def training_data(self) -> KeyedBatches[Batch]:
        """Training crops or clips, by key."""

    @property
    @abstractmethod
    def sampler_seed(self) -> int | str:
        """The seed of the subnets of a step, with the number of the step."""

    @property
    def supernet_config(self) -> SupernetConfig:
        return needed(self.experiment, self.config.supernet, "supernet")

    @property
    def search_config(self) -> SearchConfig:
        return needed(self.experiment, self.config.search, "search")

    @property
    def budgets(self) -> tuple[Constraint, ...]:
        """The current budgets of an architecture; none without a section `search`."""
        return () if self.config.search is None else self.config.search.constraints

    @property
    def patience(self) -> int | None:
        """Probes without a better AP after which retraining ends; None trains to the end."""
        return None

    @property
    def retrain_schedule(self) -> Schedule:
        return self.config.retrain.schedule

    @property
    def batch_size(self) -> int:
        """How many crops or clips are scored or calibrate at a time."""
        return self.experiment.config.evaluation_batch_size

    @abstractmethod
    def count_cost(self, arch: A) -> Cost:
        """Return MACs and parameters; those of a mean frame for a clip."""

    @abstractmethod
    def cost_of(self) -> tuple[CostOf[Any], dict[str, str | None]]:
        """Return the cost function of the search, and its settings for the journal."""

    def check_initial_supernet(self) -> None:  # noqa: B027 (most start from random weights)
        """Raise UserError if the file that the supernet starts from is missing."""

    @abstractmethod
    def supernet(self, directory: Path) -> nn.Module:
        """Build the supernet that training starts from; `directory` is for reports about it."""

    @abstractmethod
    def blank(self, arch: A | None) -> nn.Module:
        """Build what a stage trains, without weights: the supernet, or the module of retraining."""

    @abstractmethod
    def supernet_task(self, supernet: nn.Module) -> Task[A]:
        """Return the task of training the supernet."""

    @abstractmethod
    def network(self, arch: A, init_from: Path | None, directory: Path) -> nn.Module:
        """Build what retraining trains, with the weights it starts from.

        `directory` is for reports about them.
        """

    @abstractmethod
    def network_task(self, network: nn.Module, arch: A) -> tuple[Task[A], A | None]:
        """Return the task of training that network, and the architecture to run on its weights."""

    @property
    @abstractmethod
    def network_step_is_static(self) -> bool:
        """Whether a retraining step depends on its batch alone, so that a GPU may replay it."""

    @abstractmethod
    def stand_alone(self, network: nn.Module, arch: A) -> nn.Module:
        """Return what a model file holds of a network that retraining trains."""

    @abstractmethod
    def calibrate(self, model: nn.Module) -> str:
        """Measure batch norm of a retrained model where needed; return what it was measured on."""

    @abstractmethod
    def scorer(self, supernet: nn.Module, num_persons: int | None = None) -> Inherited[A]:
        """Return scores with inherited weights on the validation split, or a part of it."""

    @abstractmethod
    def crops_of_score(self, num_persons: int | None) -> int:
        """Return how many crops or clips such a score runs through a network."""

    def early_stop_margin(self, num_persons: int | None) -> float:
        """Return the margin of `scorer`: that of the search, 0 on a part of the split."""
        if self.config.search is None or num_persons is not None:
            return 0.0
        return self.config.search.early_stop_margin or 0.0

    def draw(self, folder: Path, network: nn.Module, arch: A | None) -> None:  # noqa: B027 (images)
        """Draw predictions on the validation split; without an architecture of the supernet."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Return all that any training of this level depends on, as plain values."""

    @abstractmethod
    def supernet_settings(self) -> dict[str, Any]:
        """Return what the training of the supernet depends on besides."""

    @abstractmethod
    def search_settings(self) -> dict[str, Any]:
        """Return what trials depend on besides the supernet and the section `search`."""

    @abstractmethod
    def retrain_settings(self, arch: A, init_from: Path | None) -> dict[str, Any]:
        """Return what a retraining depends on besides."""

    def teacher_settings(self, stage: Stage) -> dict[str, Any]:
        """Return the outer teacher that a stage learns from, by content; empty without one."""
        return {}

    def scoring_settings(self) -> dict[str, Any]:
        """Return what test metrics depend on besides the experiment's."""
        return {}

    @property
    @abstractmethod
    def starts_from_supernet(self) -> bool:
        """Whether retraining starts from the trained supernet by default."""

    def initial_weights(self, init_from: Path | None) -> Path | None:
        """Return the file that retraining starts from; raises UserError if it is missing."""
        if init_from is None:
            return existing_supernet(self) if self.starts_from_supernet else None
        check_is_file(init_from, "a checkpoint")
        return init_from

    def replay_state(self) -> dict[str, Any]:
        """Return what a failed step needs, beside its network, to be computed again."""
        return {}

    @abstractmethod
    def load_supernet(self, path: Path) -> nn.Module: ...

    def save_supernet(self, path: Path, supernet: nn.Module) -> None:
        write_model(path, supernet, header_of(self.experiment, supernet, self.space))

    def save_network(self, path: Path, network: nn.Module, arch: A) -> None:
        """Calibrate a retrained network and write it."""
        model = self.stand_alone(network, arch)
        header = header_of(self.experiment, model, calibrated_on=self.calibrate(model))
        write_model(path, model, header)

    def save_best(
        self, path: Path, network: nn.Module, arch: A | None, metrics: HeaderMetrics
    ) -> None:
        """Write a network in training, as it is; without an architecture it is the supernet."""
        model = network if arch is None else self.stand_alone(network, arch)
        space = self.space if arch is None else None
        write_model(path, model, header_of(self.experiment, model, space, metrics=metrics))

    def choose_key_frames(self, path: Path, other: Path) -> None:
        """Choose when a clip has key frames; if that differs from its file, write another one."""

    @abstractmethod
    def test_metrics(self, path: Path) -> dict[str, Any]:
        """Return the metrics of a retrained network on the test split, as plain values."""

    def read_arch(self, path: Path) -> A:
        """Read an architecture; raises UserError unless it is in the space."""
        arch: A = read_arch_as(self.arch_type, path)
        self.space.check_arch(arch, str(path))
        return arch

    def parse_arch(self, text: str, where: str) -> A:
        """Read an architecture from JSON."""
        arch: A = parse_json(self.arch_type, text, where)
        return arch

    def write_trial(self, path: Path, best: Trial, **found: Any) -> None:
        """Write the architecture of a search's winner, and what is known of it."""
        plain = to_plain(best)
        about = {"space": self.space.name, "seed": self.experiment.config.seed, **plain, **found}
        del about["arch"]
        write_arch(path, best.arch, **about, **self.measured(path, best))

    def measured(self, path: Path, best: Trial) -> dict[str, Any]:
        """Measure what a search only predicted of its winner; `path` is its file."""
        return {}


def existing(file: Path, expected: str, hint: str) -> Path:
    """Return the file of an earlier stage; raises UserError if there is none."""
    if not file.exists():
        raise UserError(str(file), expected, "none", hint)
    return file


def supernet_file(level: Level[Any]) -> Path:
    return level.folder.supernet / "supernet.safetensors"


def existing_supernet(level: Level[Any]) -> Path:
    """Return the trained supernet; raises UserError if there is none yet."""
    hint = f"run `{level.commands} train-supernet` first"
    return existing(supernet_file(level), "a supernet", hint)


def best_file(level: Level[Any], method: str | None = None) -> Path:
    """Return the architecture that a method found; by default the experiment's searcher."""
    name = "random_best.json" if method == "random" else "best.json"
    return level.folder.search / name


def existing_best(level: Level[Any]) -> Path:
    """Return the best architecture; raises UserError if nothing was searched yet."""
    hint = f"run `{level.commands} search` first or give --arch"
    return existing(best_file(level), "the architecture of a search", hint)


def network_file(level: Level[Any]) -> Path:
    """Return the file of the retrained network."""
    return level.folder.retrain / "network.safetensors"
