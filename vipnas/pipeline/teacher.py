"""The joints that an outer teacher finds on the training persons, computed once and kept.

N persons, K keypoints.
"""

from __future__ import annotations

import io
import os
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vipnas.config.teacher import Stage, Teacher
from vipnas.data.crops.images import read_image
from vipnas.data.crops.loader import TrainingCrops
from vipnas.data.crops.skipped import log_skipped
from vipnas.data.formats.coco import Person
from vipnas.deploy.description import find_description
from vipnas.deploy.loading import load
from vipnas.deploy.model import PoseModel
from vipnas.deploy.opening import is_foreign, open_poses
from vipnas.deploy.predictor import PoseFinder
from vipnas.errors import UserError
from vipnas.files import check_is_file, write_atomically
from vipnas.pipeline.experiment import Experiment
from vipnas.pipeline.models import calibration_of
from vipnas.settings import content_digest, plain_digest
from vipnas.threads import most_threads

PLACE = "teacher.model"


def settings_of(teacher: Teacher | None, stage: Stage) -> dict[str, Any]:
    """Return the teacher of a stage by content; empty without one.

    Raises:
        UserError: If a file of the teacher does not exist.
    """
    if teacher is None or stage not in teacher.on:
        return {}
    return {"teacher": {**_model_settings(teacher), "weight": teacher.weight}}


def taught_crops(experiment: Experiment) -> TrainingCrops:
    """Return the training crops, with the teacher's joints if the experiment has a teacher."""
    crops, teacher = experiment.training_crops, experiment.config.teacher
    if teacher is None:
        return crops
    with experiment.processes.first_then_others():
        return crops.taught_by(_joints_of(experiment, teacher))


def _joints_of(experiment: Experiment, teacher: Teacher) -> NDArray[np.float32]:
    """Return x, y in image pixels and score (N, K, 3) of each training person, in their order."""
    persons, skeleton = experiment.train_data.persons, experiment.skeleton
    facts = {
        **_model_settings(teacher),
        "joints": list(skeleton.joints),
        "seed": experiment.config.seed,
        "train": experiment.datasets.train_settings(),
    }
    digest = plain_digest(facts).partition(":")[2]
    file = experiment.folder.root / "teacher" / f"{digest}.npy"
    if file.is_file():
        found: NDArray[np.float32] = np.load(file, allow_pickle=False)
        if found.shape == (len(persons), skeleton.num_joints, 3):
            return found
    model = _open(experiment, teacher)
    rows = [model.skeleton.joints.index(name) for name in _shared(experiment, model)]
    columns = [skeleton.joints.index(name) for name in _shared(experiment, model)]
    print(f"teacher: {teacher.model} looks at {len(persons)} persons; {file}", flush=True)
    joints_NK3 = np.zeros((len(persons), skeleton.num_joints, 3), np.float32)
    joints_NK3[:, columns] = _find(model, persons, experiment.skip_bad_images)[:, rows]
    content = io.BytesIO()
    np.save(content, joints_NK3, allow_pickle=False)
    write_atomically(file, content.getvalue())
    return joints_NK3


def _model_settings(teacher: Teacher) -> dict[str, Any]:
    """Return the model by content, with its description if it is one of others."""
    if not is_foreign(teacher.model):
        return {"model": content_digest(_existing(Path(teacher.model)))}
    try:
        described = find_description("poses", teacher.model)
    except UserError as error:
        raise error.inside(PLACE) from None
    model = content_digest(_existing(described.model))
    return {"model": model, "description": plain_digest(dict(described.values))}


def _existing(path: Path) -> Path:
    check_is_file(path, place=f"{PLACE}: {path}")
    return path


def _open(experiment: Experiment, teacher: Teacher) -> PoseFinder:
    """Open the teacher; of a supernet of this experiment, the largest subnet."""
    threads, device = most_threads(os.environ), experiment.device

    def load_own() -> PoseModel:
        calibration = calibration_of(experiment)
        return load(_existing(Path(teacher.model)), calibration=calibration, device=device)

    try:
        return open_poses(teacher.model, load_own, threads=threads, device=str(device))
    except UserError as error:
        raise error.inside(PLACE) from None


def _shared(experiment: Experiment, model: PoseFinder) -> list[str]:
    """Return the names of the joints that both have, in the order of the experiment."""
    known = model.skeleton.joints
    shared = [name for name in experiment.skeleton.joints if name in known]
    if not shared:
        expected = f"some joints of {experiment.skeleton.name}"
        raise UserError(PLACE, expected, ", ".join(known))
    return shared


def _find(
    model: PoseFinder, persons: tuple[Person, ...], skip_bad_images: bool
) -> NDArray[np.float32]:
    """Return the joints (N, K, 3) of all persons; zeros where an image cannot be read."""
    found = np.zeros((len(persons), model.skeleton.num_joints, 3), np.float32)
    order = sorted(range(len(persons)), key=lambda row: (str(persons[row].image_path), row))
    for _, group in groupby(order, key=lambda row: persons[row].image_path):
        rows = list(group)
        first = persons[rows[0]]
        try:
            image = read_image(first.image_path, first.image_hw, first.ignore_exif)
        except ValueError as error:
            if not skip_bad_images:
                raise
            log_skipped(str(error), "image left out: %s", error)
            continue
        boxes_N4 = np.array([persons[row].box_xywh for row in rows])
        boxes_N4[:, 2:] += boxes_N4[:, :2]
        poses = model.predict(image, boxes_N4)
        found[rows, :, :2] = poses.keypoints
        found[rows, :, 2] = np.clip(poses.scores, 0, 1)
    return found
