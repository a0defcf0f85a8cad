"""Settings of an outer teacher: a pose model whose joints are learnt beside the labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from vipnas.errors import UserError
from vipnas.files import Strict

Stage = Literal["supernet", "retrain"]


@dataclass(frozen=True)
class Teacher(Strict):
    """A pose model that networks learn from, beside the labels.

    It sees each training person once, without augmentation. The target of a joint is a mixture: the
    share of the teacher is `weight` times its score, the label has the rest. A joint without a
    label is learnt from the teacher alone, with that share as its weight in the loss. Joints that
    the teacher lacks are left to the labels.

    Attributes:
        model: A model file, an exported file, or a model of others as `vipnas predict` takes it:
            `PRESET:FILE.onnx`, or a description `FILE.yaml`.
        weight: Share of the teacher in the target of a joint of score 1; above 0, up to 1.
        on: Stages that learn from it.
    """

    model: str
    weight: Annotated[float, Field(gt=0, le=1)]
    on: tuple[Stage, ...] = ("supernet", "retrain")

    def __post_init__(self) -> None:
        if not self.on or len({*self.on}) < len(self.on):
            raise UserError("on", "supernet, retrain or both, each once", str(list(self.on)))

    def weight_on(self, stage: Stage) -> float:
        """Return the weight in a stage; 0 if the stage does not learn from the teacher."""
        return self.weight if stage in self.on else 0.0
