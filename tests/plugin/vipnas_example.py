"""A package of somebody else: a searcher and a runtime that entry points make known to vipnas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from vipnas.files import Strict
from vipnas.runtimes import torch_export
from vipnas.runtimes.runtime import FileFormat, RunSettings, Runtime, Session, WriteSettings
from vipnas.search.constraints import A, FeasibleSpace
from vipnas.search.searchers import Child, Proposals
from vipnas.search.table import SearchMethod


@dataclass(frozen=True)
class ClimbSettings(Strict):
    """`probability`: of each choice to change."""

    probability: float = 0.2


class HillClimber(Proposals[A]):
    """Mutates the best architecture that was told."""

    def __init__(
        self, feasible: FeasibleSpace[A], seed: int, settings: ClimbSettings, _: Sequence[str]
    ) -> None:
        super().__init__(feasible, seed)
        self.probability = settings.probability
        self.told: dict[A, float] = {}

    def ask(self) -> A | None:
        return self.propose(self._mutant) if self.told else self.propose()

    def _mutant(self) -> Child[A]:
        best = max(self.told, key=lambda arch: self.told[arch])

        def mutate() -> A:
            return self.feasible.space.mutate(best, self.probability, self.rng)

        return Child(self.feasible.within(mutate, self.rng), (best,))

    def tell(self, arch: A, fitness: float) -> None:
        self.told[arch] = fitness


SEARCHER = SearchMethod(ClimbSettings, HillClimber, finds_front=False)

OPENED: list[Path] = []


def write(
    module: nn.Module, inputs: Mapping[str, Tensor], path: Path, settings: WriteSettings
) -> None:
    notes = {**settings.notes, "vipnas_example": "written by a package of somebody else"}
    torch_export.write(module, inputs, path, WriteSettings(notes=notes))


def open_file(path: Path, settings: RunSettings) -> tuple[Session, dict[str, str]]:
    OPENED.append(path)
    return torch_export.open_file(path, settings)


RUNTIME = Runtime(
    name="example",
    precisions=("fp32",),
    version=lambda: "1.0",
    load=torch_export.load,
    file=FileFormat("example", ".example", ("fp32",), write, open_file),
)
