"""Valid inputs of every kind, made once: small data sets, a finished run, a latency table."""

from __future__ import annotations

import copy
import io
import json
import random
import shutil
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import torch
import yaml

import vipnas
from tools.fuzz.foreign import make_foreign_models
from tools.fuzz.tracks import truth_with_tracks
from vipnas.cli.main import main
from vipnas.data.crops.images import read_image
from vipnas.data.formats.skeletons import SKELETONS
from vipnas.files import to_plain
from vipnas.latency.interleaved import Latency
from vipnas.latency.measure import Key
from vipnas.latency.predictors import cross_validate
from vipnas.latency.table import TABLE_VERSION, ArchTiming, BlockTiming, Table, write_table
from vipnas.models.counting import count_cost
from vipnas.models.file import read_network
from vipnas.models.posenet import plan
from vipnas.pipeline.experiment import Experiment
from vipnas.space.image import SearchSpace
from vipnas.space.yaml import read_space
from vipnas.synthetic.images import synthesize
from vipnas.synthetic.videos import synthesize_video
from vipnas.training.failure import Diagnosis, FailureFile, Taken

IMAGE_HW = (64, 64)
SPACE = {
    "family": "residual",
    "input_hw": [32, 32],
    "num_keypoints": 17,
    "stem": {"width": [8], "kernel_size": [3], "activation": ["relu"], "max_pool": [False]},
    "stages": [
        {
            "width": [8, 16],
            "depth": [1, 2],
            "kernel_size": [3, 5],
            "groups": [1],
            "channels_per_group": [1],
            "attention": [False, True],
            "expand_ratio": [1],
            "stride": [2],
            "activation": ["relu"],
        }
    ],
    "head": [{"width": [8], "kernel_size": [4], "groups": [1]}],
}
SCHEDULE = {"epochs": 1, "batch_size": 4, "learning_rate": 1e-3}
EXPERIMENT: dict[str, Any] = {
    "seed": 0,
    "space": "space",
    "skeleton": "skeleton",
    "data": {
        "train": {"annotations": "train/annotations.json", "images": "train/images"},
        "test": {"annotations": "test/annotations.json", "images": "test/images"},
        "val_persons": 2,
        "calibration_persons": 2,
    },
    "flip_test": False,
    "monitoring": {"probe_epochs": None},
    "supernet": {"sampling": {"strategy": "uniform"}, "schedule": SCHEDULE},
    "search": {
        "num_trials": 2,
        "constraints": [{"quantity": "macs", "at_most": 10**9}],
        "evolution": {"population_size": 2},
    },
    "retrain": {"init_from": "supernet", "schedule": SCHEDULE},
}
POSETRACK_DATA = {
    "train": {"posetrack": "videos/annotations", "images": "videos"},
    "test": {"posetrack": "videos/annotations", "images": "videos"},
    "val_persons": 2,
    "calibration_persons": 2,
}
LATENCY: dict[str, Any] = {"table": "latency.json", "runtime": "onnxruntime", "any_device": True}
VIDEO: dict[str, Any] = {
    "num_follow_ups": 1,
    "fusion": {"stages": [1]},
    "supernet": {"schedule": SCHEDULE},
    "search": {"num_trials": 2, "evolution": {"population_size": 2}},
    "retrain": {"schedule": SCHEDULE},
    "calibration_clips": 2,
    "val_clips": 2,
}
LABELS = Path(__file__).resolve().parents[2] / "tests" / "artefacts" / "imports"
# Of a finished run, what no command needs to find it done.
NOT_NEEDED = ("checkpoint*.pt", "best.safetensors", "kept", "events.*", "data", "along_clip.png")


@dataclass(frozen=True)
class Sandbox:
    """A folder of valid inputs, which nothing changes after it was made."""

    root: Path

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def network(self) -> Path:
        return self.run / "retrain" / "network.safetensors"

    @property
    def supernet(self) -> Path:
        return self.run / "supernet" / "supernet.safetensors"

    @property
    def published(self) -> Path:
        """The network as a published checkpoint."""
        return self.root / "published.pth"

    @property
    def exported(self) -> Path:
        """The network in ONNX."""
        return self.root / "pose.onnx"

    @property
    def photo(self) -> Path:
        return self.data / "test" / "images" / "000001.jpg"

    @property
    def failure(self) -> Path:
        """The file of a failed step, as a training of the network leaves it."""
        return self.root / "failure.pt"

    @property
    def foreign(self) -> Path:
        """Folder of a detector and a pose model of others, each with its description."""
        return self.root / "foreign"

    @property
    def labels(self) -> Path:
        """Folder of labels of other programs."""
        return LABELS

    @property
    def video_run(self) -> Path:
        return self.root / "video_run"

    @property
    def clip(self) -> Path:
        return self.video_run / "video" / "retrain" / "network.safetensors"

    @property
    def film(self) -> Path:
        return self.root / "film.avi"

    def experiment(self, **changes: Any) -> dict[str, Any]:
        return {**copy.deepcopy(EXPERIMENT), **copy.deepcopy(changes)}

    def lay_out(self, folder: Path) -> None:
        """Write an experiment, its space and its skeleton into the folder of a case."""
        for name in ("experiment.yaml", "space.yaml", "skeleton.yaml"):
            shutil.copyfile(self.root / name, folder / name)

    def lay_out_video(self, folder: Path) -> None:
        """Write an experiment of clips, and its space, into the folder of a case."""
        shutil.copyfile(self.root / "video_experiment.yaml", folder / "experiment.yaml")
        shutil.copyfile(self.root / "space.yaml", folder / "space.yaml")

    def copy_run(self, folder: Path, *without: str) -> None:
        """Copy the finished run, without some of its stages."""
        shutil.copytree(self.run, folder / "run", ignore=shutil.ignore_patterns(*without))


def make_sandbox(root: Path) -> Sandbox:
    """Make all valid inputs below an empty folder; takes seconds."""
    sandbox = Sandbox(root)
    data = sandbox.data
    synthesize(data / "train", 8, 0, IMAGE_HW, (1, 1), difficulty=0.0)
    synthesize(data / "test", 4, 1, IMAGE_HW, (1, 1), difficulty=0.0)
    synthesize_video(data / "videos", 2, 2, 3, IMAGE_HW, (1, 1), difficulty=0.0)
    (root / "space.yaml").write_text(yaml.safe_dump(SPACE))
    shutil.copyfile(SKELETONS / "coco_17.yaml", root / "skeleton.yaml")
    (root / "experiment.yaml").write_text(yaml.safe_dump(EXPERIMENT))
    places = ["--output", str(root / "made"), "--data-root", str(data), "--device", "cpu"]
    experiment = str(root / "experiment.yaml")
    _succeed("run", experiment, *places)
    shutil.copytree(root / "made", root / "run", ignore=shutil.ignore_patterns(*NOT_NEEDED))
    network, published = str(sandbox.network), str(sandbox.published)
    results = str(root / "results.json")
    metrics = _succeed("evaluate", experiment, network, *places, "--results", results, "--json")
    (root / "metrics.json").write_text(metrics)
    _succeed("convert", network, "--to", "published", "-o", published)
    annotations = json.loads((data / "test" / "annotations.json").read_text())["annotations"]
    boxes = [
        {"image_id": person["image_id"], "category_id": 1, "bbox": person["bbox"], "score": 0.9}
        for person in annotations
    ]
    (root / "detections.json").write_text(json.dumps(boxes))
    _succeed("export", network, "-o", str(sandbox.exported))
    _write_failure(sandbox)
    _write_pseudo_labels(sandbox, root / "pseudo_labels.json")
    _write_latency_table(root / "latency.json", read_space(root / "space.yaml"))
    shutil.rmtree(root / "made")
    make_videos(sandbox)
    make_foreign_models(sandbox.foreign)
    return sandbox


def make_videos(sandbox: Sandbox) -> None:
    """Make what only the kinds of videos need: a run of clips, tracks, and a film."""
    root, made = sandbox.root, sandbox.root / "made"
    document = sandbox.experiment(skeleton="posetrack_18", data=POSETRACK_DATA, video=VIDEO)
    file = root / "video_experiment.yaml"
    file.write_text(yaml.safe_dump(document))
    _succeed("run", str(file), "--output", str(made), "--data-root", str(sandbox.data))
    shutil.copytree(made, sandbox.video_run, ignore=shutil.ignore_patterns(*NOT_NEEDED))
    shutil.rmtree(made)
    videos = sandbox.data / "videos"
    (root / "tracks.json").write_text(truth_with_tracks(videos / "annotations"))
    film = cv2.VideoWriter(str(sandbox.film), cv2.VideoWriter.fourcc(*"MJPG"), 25, IMAGE_HW)
    for frame in sorted((videos / "images" / "000001").iterdir()):
        film.write(read_image(frame))
    film.release()


def _write_latency_table(path: Path, space: SearchSpace) -> None:
    """Of a made-up device, so that nothing waits for a quiet machine."""
    rng = random.Random(0)
    archs = [space.min_arch(), space.max_arch(), *(space.sample(rng) for _ in range(10))]
    layers = range(sum(1 for _ in plan(space.max_arch())))
    table = Table(
        version=TABLE_VERSION,
        vipnas=vipnas.__version__,
        key=Key("made up", LATENCY["runtime"], "1.0", 1, 1, "fp32", space.input_hw),
        space_name=space.name,
        space=space.to_plain(),
        seed=0,
        evenly=0.5,
        num_archs=len(archs),
        num_blocks=len(layers),
        archs=tuple(
            ArchTiming(Latency(0.1 + count_cost(arch).macs / 1e6, 0.01, 12), 1.0, arch)
            for arch in archs
        ),
        blocks=tuple(
            BlockTiming(Latency(0.1 + number / 100, 0.01, 12), 1.0, space.max_arch(), number)
            for number in layers
        ),
    )
    write_table(path, replace(table, choice=cross_validate(table)))


def _write_failure(sandbox: Sandbox) -> None:
    """A step that is finite when it is computed again."""
    network, _ = read_network(sandbox.network)
    file, cpu = sandbox.root / "experiment.yaml", torch.device("cpu")
    config = Experiment.open(file, None, sandbox.data, cpu).config
    images = torch.zeros(2, 3, *network.arch.input_hw, dtype=torch.uint8)
    joints = torch.ones(2, network.arch.num_keypoints, 3)
    about = {
        "stage": "retrain",
        "level": "image",
        "experiment": json.dumps(to_plain(config)),
        "arch": network.arch.to_json(),
        "train_persons": 8,
    }
    diagnosis = Diagnosis({"labels": float("nan")}, (network.arch,), None, None)
    FailureFile(sandbox.failure, about).save(network, Taken(1, (images, joints)), diagnosis)


def _write_pseudo_labels(sandbox: Sandbox, path: Path) -> None:
    """What the network finds in whole images, as annotations: in these boxes it finds the same."""
    images = str(sandbox.data / "test" / "images")
    _succeed("label", str(sandbox.network), images, "-o", str(path), "--min-score", "0")
    document = json.loads(path.read_text())
    height, width = IMAGE_HW
    for person in document["annotations"]:
        person |= {"bbox": [0, 0, width, height], "area": height * width}
    path.write_text(json.dumps(document))


def _succeed(*arguments: str) -> str:
    """Run a command, and return what it printed."""
    printed = io.StringIO()
    with redirect_stdout(printed), redirect_stderr(io.StringIO()) as errors:
        code = main(arguments)
    assert code == 0, errors.getvalue()
    return printed.getvalue()
