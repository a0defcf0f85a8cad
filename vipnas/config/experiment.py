"""Read an experiment from its YAML file; all of it is checked before anything starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, TypeAlias

from pydantic import Field, PositiveFloat, PositiveInt

from vipnas.arch.codec import CodecName
from vipnas.config.clip import VideoConfig
from vipnas.config.data import Augmentation, BoxFit, Data
from vipnas.config.monitoring import Monitoring
from vipnas.config.search import SearchConfig
from vipnas.config.teacher import Teacher
from vipnas.config.training import Compute, RetrainConfig, SupernetConfig
from vipnas.errors import UserError
from vipnas.files import Strict, parse, read_yaml

# PyTorch takes 64 bits, and other splits add to the seed.
Seed: TypeAlias = Annotated[int, Field(ge=0, lt=1 << 63)]


@dataclass(frozen=True)
class ExperimentConfig(Strict):
    """All settings of a run.

    Attributes:
        seed: Seed of everything that is random.
        space: Search space: a shipped name or a YAML file.
        data: Where persons come from.
        retrain: How a single architecture is trained.
        supernet: How the supernet is trained; not needed to retrain a known architecture.
        search: How the supernet is searched; not needed to retrain a known architecture.
        skeleton: Joints and limbs: a shipped name or a YAML file.
        input_hw: Input height and width in pixels, or a list of several options; null takes those
            of the space.
        codec: How heatmaps become coordinates (`vipnas/data/codecs/heatmap.py`). `simcc` is that of
            a space with a SimCC head (`vipnas/data/codecs/simcc.py`).
        sigma_px: Standard deviation of the target heatmaps, in heatmap pixels; with `simcc`, in
            pixels of the input.
        box: How the region of a crop is made from the box of a person.
        augmentation: How training crops vary.
        flip_test: Average the heatmaps of each crop and its mirror image when evaluating.
        evaluation_batch_size: Crops per batch when evaluating.
        checkpoint_minutes: Minutes between checkpoints.
        keep_checkpoints: Number of checkpoints that are kept.
        compute: Precision, memory format and compilation.
        monitoring: What is measured during a training.
        teacher: A pose model that networks of images learn from beside the labels; null for none.
        video: The temporal level; null for images only.
    """

    seed: Seed
    space: str
    data: Data
    retrain: RetrainConfig
    supernet: SupernetConfig | None = None
    search: SearchConfig | None = None
    skeleton: str = "coco_17"
    input_hw: tuple[int, int] | tuple[tuple[int, int], ...] | None = None
    codec: CodecName = "quarter"
    sigma_px: Annotated[float, Field(ge=0.1, le=100)] = 2.0
    box: BoxFit = field(default_factory=BoxFit)
    augmentation: Augmentation = field(default_factory=Augmentation)
    flip_test: bool = True
    evaluation_batch_size: PositiveInt = 64
    checkpoint_minutes: PositiveFloat = 2.0
    keep_checkpoints: PositiveInt = 2
    compute: Compute = field(default_factory=Compute)
    monitoring: Monitoring = field(default_factory=Monitoring)
    teacher: Teacher | None = None
    video: VideoConfig | None = None

    def __post_init__(self) -> None:
        if self.retrain.patience is not None and self.monitoring.probe_epochs is None:
            expected = "a number of epochs, as retrain.patience counts probes"
            raise UserError("monitoring.probe_epochs", expected, "null")
        latency = None if self.video is None else self.video.search.latency
        if latency is not None and latency.measure_share:
            found = f"{latency.measure_share:g}"
            raise UserError("video.search.latency.measure_share", "null for clips", found)
        if self.codec == "simcc":
            self._check_simcc()

    def _check_simcc(self) -> None:
        """Refuse what needs heatmaps."""
        if self.video is not None:
            hint = "clips feed heatmaps forward, and a SimCC head has none"
            raise UserError("video", "none with codec simcc", "a section", hint)
        if self.supernet is not None and self.supernet.distillation.loss != "labels":
            found, hint = self.supernet.distillation.loss, "the other losses compare heatmaps"
            raise UserError("supernet.distillation.loss", "labels with codec simcc", found, hint)


def read_experiment(path: Path) -> ExperimentConfig:
    """Read an experiment; raises UserError if a key or a value is not allowed."""
    return parse(ExperimentConfig, read_yaml(path), str(path))
