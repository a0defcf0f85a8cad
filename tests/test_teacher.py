"""A teacher in an experiment: its joints by hand, kept, by content, bit-equal after a resume."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from errors_fixture import refused
from experiment_fixture import EXPERIMENT, draw_people, write_experiment
from model_fixture import save_network
from onnx_fixture import write_constant_model

from vipnas.cli.main import main
from vipnas.config.teacher import Teacher
from vipnas.data.formats.skeletons import COCO_17, read_skeleton
from vipnas.files import parse, read_yaml
from vipnas.models.posenet import PoseNet
from vipnas.pipeline import teacher as teacher_module
from vipnas.pipeline.experiment import Experiment
from vipnas.pipeline.image_level import ImageLevel
from vipnas.pipeline.teacher import taught_crops
from vipnas.space.image import SearchSpace

SCORE = 0.5


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """People, and a teacher that finds the nose in the middle of each box, the neck right of it."""
    directory = tmp_path_factory.mktemp("teacher")
    draw_people(directory / "data")
    found = np.array([[[[0.5, 0.5, SCORE], [0.5, 1.0, 3.0]]]], np.float32)
    write_constant_model(directory / "model.onnx", {"found": found})
    skeleton = {"name": "two", "joints": ["nose", "neck"], "flip_pairs": [], "sigmas": [0.1, 0.1]}
    (directory / "two.yaml").write_text(yaml.safe_dump(skeleton))
    description = {
        "preset": "movenet",
        "model": "model.onnx",
        "skeleton": "two.yaml",
        "input": {"layout": "nchw"},
        "box_padding": 1.0,
    }
    (directory / "teacher.yaml").write_text(yaml.safe_dump(description))
    return directory


def experiment_of(directory: Path, run: Path | None = None, **changes: Any) -> Experiment:
    document = {**copy.deepcopy(EXPERIMENT), "monitoring": {"probe_epochs": None}}
    document |= {"teacher": {"model": "teacher.yaml", "weight": 0.5}, **changes}
    file = write_experiment(directory, document)
    output = run or directory / "run"
    return Experiment.open(file, output, directory / "data", torch.device("cpu"))


def test_a_section_as_written_by_hand(tmp_path: Path) -> None:
    file = tmp_path / "teacher.yaml"
    file.write_text("{model: a.onnx, weight: 0.5, on: [retrain]}\n")  # `on` is a boolean to YAML
    teacher = parse(Teacher, read_yaml(file), "teacher")
    assert (teacher.weight_on("supernet"), teacher.weight_on("retrain")) == (0.0, 0.5)


def test_its_joints_are_found_by_name_once(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = experiment_of(directory, tmp_path)
    crops = taught_crops(experiment)
    joints = crops.teacher_NK3
    assert joints is not None and joints.shape == (len(crops), COCO_17.num_joints, 3)
    boxes = np.array([person.box_xywh for person in crops.persons])
    np.testing.assert_allclose(joints[:, 0, :2], boxes[:, :2] + boxes[:, 2:] / 2, rtol=1e-5)
    assert (joints[:, 0, 2] == SCORE).all()
    assert not joints[:, 1:].any()  # coco_17 has no neck
    monkeypatch.setattr(teacher_module, "_open", None)  # it is not opened again
    again = taught_crops(experiment_of(directory, tmp_path))
    assert again.teacher_NK3 is not None and np.array_equal(joints, again.teacher_NK3)


def test_settings_know_the_teacher_by_content_where_it_teaches(
    directory: Path, tiny_space: SearchSpace, tmp_path: Path
) -> None:
    teacher = {"model": "teacher.yaml", "weight": 0.5}
    level = ImageLevel(experiment_of(directory, tmp_path, teacher={**teacher, "on": ["retrain"]}))
    arch = tiny_space.min_arch()
    assert "teacher" not in level.supernet_settings()
    before = level.retrain_settings(arch, None)["teacher"]
    assert before["weight"] == 0.5
    network = PoseNet(arch)
    tasks = level.supernet_task(network), level.network_task(network, arch)[0]
    assert [task.teacher_weight for task in tasks] == [0.0, 0.5]
    other = save_network(tmp_path / "own.safetensors", network)
    level = ImageLevel(experiment_of(directory, tmp_path, teacher={**teacher, "model": str(other)}))
    assert level.retrain_settings(arch, None)["teacher"]["model"] != before["model"]


@pytest.mark.parametrize(
    ("model", "place", "expected", "found"),
    [
        ("none.safetensors", "none.safetensors", "a file", "no such file"),
        ("movenet:none.onnx", "none.onnx", "a file", "no such file"),
        (".", ".", "a file", "a folder"),
        ("none.yaml", "none.yaml", "a description", "no such file"),
    ],
)
def test_a_teacher_that_is_none(
    directory: Path, tmp_path: Path, model: str, place: str, expected: str, found: str
) -> None:
    level = ImageLevel(experiment_of(directory, tmp_path, teacher={"model": model, "weight": 1.0}))
    with refused(f"teacher.model: {place}", expected, found):
        level.supernet_settings()


def test_a_teacher_of_no_known_joint(directory: Path, tmp_path: Path) -> None:
    skeleton = read_skeleton(str(directory / "two.yaml"))
    experiment = experiment_of(directory, tmp_path)
    model = teacher_module._open(experiment, experiment.config.teacher)  # type: ignore[arg-type]
    assert model.skeleton.joints == skeleton.joints
    model.skeleton = skeleton.__class__("one", ("tail",), (), (), (0.1,))  # type: ignore[misc]
    with refused("teacher.model", "some joints of coco_17", "tail"):
        teacher_module._shared(experiment, model)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weight": 0.0}, "teacher.weight: expected a number greater than 0"),
        ({"weight": 1.5}, "teacher.weight: expected a number less than or equal to 1"),
        ({"on": []}, "teacher.on: expected supernet, retrain or both, each once, got []"),
    ],
)
def test_settings_that_are_none(directory: Path, changes: dict[str, Any], message: str) -> None:
    teacher = {"model": "teacher.yaml", "weight": 0.5, **changes}
    with pytest.raises(ValueError, match=message.replace("[", r"\[")):
        experiment_of(directory, teacher=teacher)


@pytest.mark.slow
def test_a_training_with_a_teacher_resumes_to_the_bit(directory: Path, tmp_path: Path) -> None:
    schedule = {"epochs": 2, "batch_size": 4, "learning_rate": 1e-3}
    experiment = experiment_of(
        directory, supernet={**EXPERIMENT["supernet"], "schedule": schedule}, keep_checkpoints=4
    )
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"

    def train(run: Path) -> bytes:
        assert experiment.file is not None
        places = ["--output", str(run), "--data-root", str(directory / "data"), "--device", "cpu"]
        assert main(["train-supernet", str(experiment.file), *places]) == 0
        return (run / "supernet" / "supernet.safetensors").read_bytes()

    expected = train(whole)
    first = min((whole / "supernet" / "kept").iterdir())
    (resumed / "supernet").mkdir(parents=True)
    shutil.copy(first, resumed / "supernet" / "checkpoint.pt")
    assert train(resumed) == expected


def test_movenet_teaches_photographs(
    vipnas_data: Path, models_folder: Path, tmp_path: Path
) -> None:
    document = {**copy.deepcopy(EXPERIMENT)}
    files = {"annotations": "lspet/train.json", "images": "lspet/images"}
    document["data"] |= {"train": files, "test": files, "max_train_persons": 6}
    model = f"movenet:{models_folder / 'movenet-lightning.onnx'}"
    document["teacher"] = {"model": model, "weight": 0.2}
    file = write_experiment(tmp_path, document)
    experiment = Experiment.open(
        file, tmp_path / "run", vipnas_data, torch.device("cpu"), skip_bad_images=False
    )
    crops = taught_crops(experiment)
    assert crops.teacher_NK3 is not None
    labels = np.stack([person.keypoints_K3 for person in crops.persons])
    scale = np.sqrt([person.area for person in crops.persons])[:, None]
    error = np.linalg.norm(crops.teacher_NK3[..., :2] - labels[..., :2], axis=2) / scale
    is_sure = (labels[..., 2] > 0) & (crops.teacher_NK3[..., 2] > 0.4)
    assert is_sure.sum() >= 10 and np.median(error[is_sure]) < 0.1
