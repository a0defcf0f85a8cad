"""An experiment, opened: its configuration, its data, and the folder of its run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vipnas.arch.image import Arch
from vipnas.config.data import BoxFit
from vipnas.config.experiment import ExperimentConfig, read_experiment
from vipnas.config.training import Compute
from vipnas.data.codecs.heatmap import HeatmapCodec
from vipnas.data.crops.loader import TrainingCrops
from vipnas.data.formats.coco import PoseData
from vipnas.data.formats.skeletons import Skeleton, find_skeleton
from vipnas.evaluation.evaluator import Evaluator
from vipnas.files import to_plain
from vipnas.pipeline.datasets import Datasets
from vipnas.pipeline.datasets import Split as Split
from vipnas.pipeline.names import check_names
from vipnas.pipeline.precision import kept_compute
from vipnas.pipeline.run_folder import RunFolder
from vipnas.shipped import find_beside, find_shipped
from vipnas.space.image import SearchSpace
from vipnas.training.distributed import ALONE, Processes


@dataclass(frozen=True)
class Experiment:
    """What an experiment's YAML names, as its stages use it.

    `output` is the folder of this run, in which `search_name` tells searches apart; paths of the
    data are relative to `data_root`; `file` is the YAML. Without `check_images` no image file needs
    to exist when data are opened.
    """

    config: ExperimentConfig
    output: Path
    data_root: Path
    device: torch.device
    skip_bad_images: bool = False
    processes: Processes = ALONE
    search_name: str | None = None
    file: Path | None = None
    name: str = "experiment"
    check_images: bool = True

    @classmethod
    def open(
        cls,
        name: str | Path,
        output: Path | None,
        data_root: Path,
        device: torch.device,
        skip_bad_images: bool = False,
        search_name: str | None = None,
    ) -> Experiment:
        """Open a file or a shipped name; without `output` the run is `runs/NAME`.

        The space and the skeleton are looked for beside the file first.
        """
        path = find_shipped("experiments", str(name), ".yaml")
        output = output or Path("runs") / path.stem
        config = _with_files_beside(read_experiment(path), path)
        check_names(config, str(path))
        return cls(
            config,
            output,
            data_root,
            device,
            skip_bad_images,
            search_name=search_name,
            file=path,
            name=path.stem,
        )

    @property
    def files(self) -> dict[str, Path]:
        """Which files the names of this experiment and of its spaces mean."""
        named = {"space": self.config.space}
        if self.config.video is not None and self.config.video.space is not None:
            named["video space"] = self.config.video.space
        found = {what: find_shipped("search_spaces", name, ".yaml") for what, name in named.items()}
        return found if self.file is None else {"experiment": self.file, **found}

    @cached_property
    def folder(self) -> RunFolder:
        return RunFolder(self.output, self.search_name)

    @cached_property
    def datasets(self) -> Datasets:
        return Datasets(
            self.config,
            self.data_root,
            self.folder.synthetic,
            self.skip_bad_images,
            self.processes.number,
            self.check_images,
        )

    @property
    def compute(self) -> Compute:
        """How trainings of this run compute; `auto` is replaced by what the run keeps."""
        return kept_compute(self.config.compute, self.device, self.output)

    @property
    def skeleton(self) -> Skeleton:
        return self.datasets.skeleton

    @property
    def space(self) -> SearchSpace:
        return self.datasets.space

    def at(self, arch: Arch) -> Experiment:
        """Return the experiment with the input size of an architecture of its space alone.

        A network by itself is trained and tested on crops of its own size, which are not resized.
        """
        if not self.space.has_sizes or arch.input_hw not in self.space.inputs_hw:
            return self
        return replace(self, config=replace(self.config, input_hw=arch.input_hw))

    @property
    def codec(self) -> HeatmapCodec:
        return self.datasets.codec

    @property
    def train_data(self) -> PoseData:
        return self.datasets.train_data

    @property
    def val_data(self) -> PoseData:
        return self.datasets.val_data

    @property
    def test_data(self) -> PoseData:
        return self.datasets.test_data

    @property
    def training_crops(self) -> TrainingCrops:
        return self.datasets.training_crops

    @property
    def calibration_images(self) -> Tensor:
        return self.datasets.calibration_images

    def data_of(self, split: Split) -> PoseData:
        return self.datasets.data_of(split)

    def evaluator(self, split: Split, max_persons: int | None = None) -> Evaluator:
        return self.datasets.evaluator(split, max_persons)

    def training_settings(self) -> dict[str, Any]:
        """Return all that any training of this experiment depends on, as plain values."""
        compute = self.compute
        default = Compute(precision="float32")
        return {
            **self._crop_settings(),
            "udp": self.config.codec == "udp",
            **({} if compute == default else {"compute": to_plain(compute)}),
        }

    def _sigma_and_box(self) -> dict[str, Any]:
        """Return settings of targets and crops; the box only if it is not fitted by default."""
        config = self.config
        box = {} if config.box == BoxFit() else {"box": to_plain(config.box)}
        return {"sigma_px": config.sigma_px, **box}

    def inherited_settings(self) -> dict[str, Any]:
        """Return all that scores with a supernet's weights depend on, beside these."""
        config = self.config
        return {
            **self._crop_settings(),
            "codec": config.codec,
            "evaluation_batch_size": config.evaluation_batch_size,
            "device": self.device.type,
        }

    def _crop_settings(self) -> dict[str, Any]:
        """Return what training crops and their targets depend on, but for the codec."""
        return {
            "seed": self.config.seed,
            "space": self.space.to_plain(),
            "skeleton": self.datasets.skeleton_settings(),
            "train": self.datasets.train_settings(),
            "augmentation": to_plain(self.config.augmentation),
            **self._sigma_and_box(),
        }

    def scoring_settings(self) -> dict[str, Any]:
        """Return all that metrics on the test set depend on, beside the network."""
        config = self.config
        return {
            "test": self.datasets.test_settings(),
            "skeleton": self.datasets.skeleton_settings(),
            "codec": config.codec,
            **self._sigma_and_box(),
            "flip_test": config.flip_test,
        }


def _with_files_beside(config: ExperimentConfig, path: Path) -> ExperimentConfig:
    """Replace the names of files beside the experiment by their paths.

    Raises:
        UserError: No file has one of the names.
    """
    skeleton = find_beside(path, config.skeleton)
    skeleton = skeleton or find_skeleton(config.skeleton, f"{path}: skeleton")
    space = _space_file(path, config.space, "space")
    config = replace(config, skeleton=str(skeleton), space=str(space))
    config = _with_weights_beside(config, path)
    video = config.video
    if video is None or video.space is None:
        return config
    space = _space_file(path, video.space, "video.space")
    return replace(config, video=replace(video, space=str(space)))


def _space_file(path: Path, name: str, key: str) -> Path:
    beside = find_beside(path, name)
    return beside or find_shipped("search_spaces", name, ".yaml", f"{path}: {key}")


def _with_weights_beside(config: ExperimentConfig, path: Path) -> ExperimentConfig:
    """Replace the names of models that trainings start from or learn from likewise."""

    def placed(name: str | None) -> str | None:
        return name if name is None else str(find_beside(path, name) or name)

    retrain, supernet = config.retrain, config.supernet
    if retrain.init_file is not None:
        init_from, init_arch = placed(retrain.init_file), placed(retrain.init_arch)
        assert init_from is not None
        retrain = replace(retrain, init_from=init_from, init_arch=init_arch)
    if supernet is not None:
        init_from, init_arch = placed(supernet.init_from), placed(supernet.init_arch)
        supernet = replace(supernet, init_from=init_from, init_arch=init_arch)
    teacher = config.teacher
    if teacher is not None and (model := placed(teacher.model)) is not None:
        teacher = replace(teacher, model=model)
    return replace(config, retrain=retrain, supernet=supernet, teacher=teacher)
