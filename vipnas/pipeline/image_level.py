"""The level of images: networks that take one crop."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from vipnas.arch.image import Arch
from vipnas.config.experiment import ExperimentConfig
from vipnas.config.schedule import Schedule
from vipnas.config.search import SearchConfig
from vipnas.config.teacher import Stage
from vipnas.config.training import SupernetConfig
from vipnas.data.crops.loader import TrainingCrops
from vipnas.errors import UserError
from vipnas.evaluation.coco_ap import coco_metrics
from vipnas.evaluation.evaluator import calibrate_bn
from vipnas.evaluation.metrics import Metrics
from vipnas.evaluation.scoring import InheritedScore
from vipnas.files import check_is_file, read_json, to_plain
from vipnas.models.counting import count_cost
from vipnas.models.posenet import PoseNet
from vipnas.pipeline.batch_size import with_batch_size
from vipnas.pipeline.details import draw_predictions, draw_supernet, write_details
from vipnas.pipeline.initial import InitialWeights, initial_weights, start_from
from vipnas.pipeline.level import Level, supernet_file
from vipnas.pipeline.models import check_subnet, open_network, open_supernet
from vipnas.pipeline.run_folder import RunFolder
from vipnas.pipeline.teacher import settings_of, taught_crops
from vipnas.quantities import Cost
from vipnas.search.constraints import CostOf
from vipnas.search.trial import Trial
from vipnas.space.image import SearchSpace
from vipnas.training.compute import make_forward
from vipnas.training.step import ImageTask


@dataclass(frozen=True)
class ImageLevel(Level[Arch]):
    """An experiment's level of images."""

    name = "image"
    commands = "vipnas"
    sections = ""
    arch_type = Arch
    network_step_is_static = True

    @property
    def config(self) -> ExperimentConfig:
        return self.experiment.config

    def at(self, arch: Arch) -> ImageLevel:
        return ImageLevel(self.experiment.at(arch))

    @property
    def folder(self) -> RunFolder:
        return self.experiment.folder

    @property
    def space(self) -> SearchSpace:
        return self.experiment.space

    @cached_property
    def training_data(self) -> TrainingCrops:
        return taught_crops(self.experiment)

    @cached_property
    def supernet_config(self) -> SupernetConfig:
        config = super().supernet_config
        schedule = with_batch_size(self.experiment, config.schedule, self.folder.supernet)
        return replace(config, schedule=schedule)

    @cached_property
    def retrain_schedule(self) -> Schedule:
        return with_batch_size(self.experiment, self.config.retrain.schedule, self.folder.retrain)

    @property
    def sampler_seed(self) -> int:
        return self.config.seed

    def count_cost(self, arch: Arch) -> Cost:
        return count_cost(arch)

    def cost_of(self) -> tuple[CostOf[Arch], dict[str, str | None]]:
        return cost_of_images(self.search_config, self.space)

    @property
    def _initial_supernet(self) -> InitialWeights | None:
        config = self.supernet_config
        if config.init_from is None:
            return None
        return initial_weights(Path(config.init_from), config.init_arch, "supernet")

    def check_initial_supernet(self) -> None:
        self._initial_supernet  # noqa: B018 (raises)

    def supernet(self, directory: Path) -> PoseNet:
        supernet = PoseNet(self.space.max_arch())
        if (weights := self._initial_supernet) is not None:
            start_from(self.experiment, supernet, weights, directory)
        return supernet

    def blank(self, arch: Arch | None) -> PoseNet:
        return PoseNet(arch or self.space.max_arch(), initialise=False)

    def supernet_task(self, supernet: nn.Module) -> ImageTask:
        return self._task(supernet, "supernet")

    def network(self, arch: Arch, init_from: Path | None, directory: Path) -> PoseNet:
        network = PoseNet(arch)
        if init_from is not None:
            if init_from == supernet_file(self):
                check_subnet(self.experiment, init_from, arch)
            start_from(self.experiment, network, self._initial_network(init_from), directory)
        return network

    def _initial_network(self, init_from: Path) -> InitialWeights:
        return initial_weights(init_from, self.config.retrain.init_arch, "retrain")

    def network_task(self, network: nn.Module, arch: Arch) -> tuple[ImageTask, None]:
        return self._task(network, "retrain"), None

    def _task(self, network: nn.Module, stage: Stage) -> ImageTask:
        assert isinstance(network, PoseNet)
        experiment, teacher = self.experiment, self.config.teacher
        forward = make_forward(network, experiment.compute, experiment.processes)
        weight = 0.0 if teacher is None else teacher.weight_on(stage)
        return ImageTask(forward, experiment.codec, weight)

    def scorer(self, supernet: nn.Module, num_persons: int | None = None) -> InheritedScore:
        assert isinstance(supernet, PoseNet)
        evaluator = self.experiment.evaluator("val", num_persons)
        margin = self.early_stop_margin(num_persons)
        images = self._calibration(num_persons)
        return InheritedScore(supernet, self.space, evaluator, images, margin)

    def crops_of_score(self, num_persons: int | None) -> int:
        splits = len(self.experiment.val_data.persons), self.config.data.calibration_persons
        if num_persons is not None:
            splits = min(splits[0], num_persons), min(splits[1], num_persons)
        val, calibration = splits
        return val * (2 if self.config.flip_test else 1) + calibration

    def _calibration(self, at_most: int | None) -> Tensor:
        images: Tensor = self.experiment.calibration_images
        return images if at_most is None else images[:at_most]

    def draw(self, folder: Path, network: nn.Module, arch: Arch | None) -> None:
        assert isinstance(network, PoseNet)
        at_most = self.config.monitoring.probe_persons
        if arch is not None:
            draw_predictions(folder, self.experiment.evaluator("val", at_most), network)
            return
        scorer = self.scorer(network, at_most)
        archs = {"largest": self.space.max_arch(), "smallest": self.space.min_arch()}
        subnets = {name: scorer.network(one) for name, one in archs.items()}
        with suppress(FloatingPointError):  # a subnet that failed has no predictions
            draw_supernet(folder, scorer.evaluator, subnets)

    def settings(self) -> dict[str, Any]:
        return self.experiment.training_settings()

    def supernet_settings(self) -> dict[str, Any]:
        config, weights = self.supernet_config, self._initial_supernet
        plain = to_plain(replace(config, init_from=None, init_arch=None))
        return {
            "supernet": plain,
            **({} if weights is None else weights.settings()),
            **self.teacher_settings("supernet"),
        }

    def search_settings(self) -> dict[str, Any]:
        return {"flip_test": self.config.flip_test}

    @property
    def patience(self) -> int | None:
        patience = self.config.retrain.patience
        if patience is not None and self.experiment.processes.number > 1:
            found = f"{patience} with {self.experiment.processes.number} processes"
            raise UserError("retrain.patience", "null with several processes", found)
        return patience

    def retrain_settings(self, arch: Arch, init_from: Path | None) -> dict[str, Any]:
        config = self.config.retrain
        kind = config.init_from if config.init_file is None else "file"
        weights = None if init_from is None else self._initial_network(init_from)
        schedule = self.retrain_schedule
        plain = to_plain(replace(config, schedule=schedule, init_from=kind, init_arch=None))
        if config.patience is None:  # results without the key stay valid
            del plain["patience"]
        return {
            "retrain": plain,
            "arch": to_plain(arch, defaults=False),
            **({} if weights is None else weights.settings()),
            **self.teacher_settings("retrain"),
            "calibration_batch_size": self.batch_size,
        }

    def teacher_settings(self, stage: Stage) -> dict[str, Any]:
        return settings_of(self.config.teacher, stage)

    @property
    def starts_from_supernet(self) -> bool:
        return self.config.retrain.init_from == "supernet"

    def initial_weights(self, init_from: Path | None) -> Path | None:
        file = self.config.retrain.init_file
        if init_from is None and file is not None:
            init_from = Path(file)
            check_is_file(init_from, "a checkpoint", f"retrain.init_from: {init_from}")
        return super().initial_weights(init_from)

    def load_supernet(self, path: Path) -> PoseNet:
        return open_supernet(self.experiment, path)

    def stand_alone(self, network: nn.Module, arch: Arch) -> nn.Module:
        return network

    def calibrate(self, model: nn.Module) -> str:
        if self.retrain_schedule.average_decay == 0:
            return "the batches of its training"
        assert isinstance(model, PoseNet)
        # The running statistics are of the last weights, not of the averaged ones.
        calibrate_bn(model, self.experiment.calibration_images, self.batch_size)
        return f"training crops of {self.experiment.name}"

    def test_metrics(self, path: Path) -> dict[str, Any]:
        network = open_network(self.experiment, path)
        evaluator = self.experiment.evaluator("test")
        xy_px, scores = evaluator.predict(network)
        results = evaluator.results_of(xy_px, scores)
        metrics = coco_metrics(evaluator.ground_truth, results, evaluator.skeleton)
        print(f"retrain: {metrics} on the test set; {path}")
        write_details(path.parent, evaluator, xy_px, scores)
        return dict(to_plain(metrics))

    def measured(self, path: Path, best: Trial) -> dict[str, Any]:
        """Measure and print the latency of a winner that was searched by predicted latency."""
        config = self.search_config
        if config.latency is None:
            return {}
        from vipnas.latency.predictors import open_predictor

        assert isinstance(best.arch, Arch)
        compared = open_predictor(config.latency, self.space).compare(best.arch)
        warning = ""
        if compared.measured is not None:
            cost = best.cost.with_values(latency_ms=compared.measured.median_ms)
            missed = [str(limit) for limit in config.constraints if limit.excess(cost)]
            warning = f"; outside of the budget: {', '.join(missed)}" if missed else ""
        print(f"search: {path.name}: {compared}{warning}")
        return {"latency": asdict(compared)}


def cost_of_images(
    config: SearchConfig, space: SearchSpace
) -> tuple[CostOf[Arch], dict[str, str | None]]:
    """Return the cost function of architectures, and its settings for the journal."""
    if config.latency is None:
        return count_cost, {"latency_table": None}
    from vipnas.latency.predictors import open_predictor, with_latency

    predictor = open_predictor(config.latency, space)
    print(f"search: {predictor}")
    return with_latency(count_cost, predictor), {"latency_table": predictor.fingerprint}


def read_metrics(path: Path) -> Metrics:
    """Return the metrics of a `metrics.json`, without the settings that they were measured with."""
    metrics = read_json(path)
    return Metrics(**{field.name: metrics[field.name] for field in fields(Metrics)})
