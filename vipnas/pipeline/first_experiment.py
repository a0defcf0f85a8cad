"""Write a first experiment for data, a budget and the hours at hand; `vipnas init` calls it."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from vipnas.arch.image import Arch
from vipnas.config.experiment import ExperimentConfig
from vipnas.errors import UserError
from vipnas.files import parse
from vipnas.latency.measure import key_of_this_machine, measure_archs, pinned
from vipnas.models.counting import count_cost
from vipnas.pipeline.budget import Budget
from vipnas.pipeline.experiment import Experiment
from vipnas.pipeline.first_schedule import (
    BATCH_SIZE,
    MIN_TRIALS,
    Expected,
    FirstSchedule,
    fit_schedule,
)
from vipnas.pipeline.image_level import ImageLevel
from vipnas.pipeline.plan import expected_arch, expected_trials
from vipnas.pipeline.stage_seconds import BRIEF, THOROUGH, stage_seconds
from vipnas.pipeline.step_seconds import Effort
from vipnas.search.table import num_shared
from vipnas.shipped import find_shipped
from vipnas.space.image import SearchSpace
from vipnas.space.yaml import read_space

HEIGHTS_PX = (256, 192, 128, 96)
# At least this part of the architectures must be within the budget at an input size.
MIN_WITHIN = 0.25
NUM_MEASURED = 8
# A budget in milliseconds becomes one in MACs, with this share left for what a line misses.
MARGIN = 0.9
# Fewer steps hardly train a supernet; a smaller input makes room for more of them.
ENOUGH_STEPS = 1000
MAX_VAL_PERSONS = 300
LEARNING_RATE = 2e-3

Say = Callable[[str], object]


@dataclass(frozen=True)
class Wishes:
    """What somebody wants to have.

    Attributes:
        annotations: COCO keypoint JSON of the training persons, relative to `data_root`.
        images: Folder of their images.
        test_annotations: That of the test persons.
        test_images: Folder of their images.
        data_root: Dataset root.
        skeleton: A shipped name or a YAML file.
        space: A shipped name or a YAML file.
        budget: What the network may cost.
        hours: Time for the whole run on this machine.
        device: torch device.
    """

    annotations: str
    images: str
    test_annotations: str
    test_images: str
    data_root: Path
    skeleton: str
    space: str
    budget: Budget
    hours: float
    device: torch.device


@dataclass(frozen=True)
class Plan:
    """The text of an experiment, and what it expects."""

    text: str
    expected: Expected


def first_experiment(wishes: Wishes, say: Say = print) -> Plan:
    """Look at the data and the machine, time ten steps, and write an experiment.

    Raises:
        UserError: The data cannot be read, no architecture of the space is within the budget, or
            the time is too short for a training.
    """
    base = _base(wishes)
    opened = _opened(base, wishes, Path("runs/init"))
    skeleton, persons = opened.skeleton, (*opened.train_data.persons, *opened.val_data.persons)
    boxes_hw = np.array([(person.box_xywh[3], person.box_xywh[2]) for person in persons])
    is_wide = float(np.mean(boxes_hw[:, 1] > 0.75 * boxes_hw[:, 0])) > 0.5
    height = float(np.median(boxes_hw[:, 0]))
    say(
        f"{len(persons)} persons, boxes {height:.0f} px high in the median;"
        f" {'most are wide: square inputs' if is_wide else 'inputs of 4 : 3'}"
    )
    base["data"]["val_persons"] = min(MAX_VAL_PERSONS, max(1, len(persons) // 7))
    inputs = _inputs_within(wishes, 1.0 if is_wide else 0.75, height, skeleton.num_joints, say)
    num_persons = len(persons) - base["data"]["val_persons"]
    for size, macs in inputs:
        base |= {"input_hw": list(size), **_limited(wishes.budget, macs)}
        schedule = _fitted(base, wishes, num_persons, BRIEF)
        if schedule.num_steps >= ENOUGH_STEPS:
            break
        say(f"input {size[0]} x {size[1]}: time for {schedule.num_steps} steps of the supernet")
    schedule = _fitted(base, wishes, num_persons, THOROUGH)
    if schedule.hours_needed > wishes.hours:
        least = math.ceil(10 * schedule.hours_needed) / 10
        wanted = f"at least {least:g} for {num_persons} persons"
        raise UserError("--hours", wanted, f"{wishes.hours:g}", "or another --space or --budget")
    say(str(schedule.seconds))
    return Plan(_text(base, wishes, schedule), schedule.expected)


def _fitted(
    document: dict[str, Any], wishes: Wishes, num_persons: int, effort: Effort
) -> FirstSchedule:
    """Time the stages of an experiment, and fit them into the hours."""
    with TemporaryDirectory() as folder:
        level = ImageLevel(_opened(document, wishes, Path(folder)))
        seconds = stage_seconds(level, expected_arch(level), expected_trials(level), effort)
        num_probed, shared = level.config.monitoring.num_probed, num_shared(level.search_config)
        return fit_schedule(wishes.hours, seconds, num_persons, num_probed, shared)


def _base(wishes: Wishes) -> dict[str, Any]:
    """Return the experiment without what is measured."""
    schedule = {"epochs": 1, "batch_size": BATCH_SIZE, "learning_rate": LEARNING_RATE}
    train = {"annotations": wishes.annotations, "images": wishes.images}
    test = {"annotations": wishes.test_annotations, "images": wishes.test_images}
    return {
        "seed": 0,
        "space": wishes.space,
        "skeleton": wishes.skeleton,
        "data": {"train": train, "test": test, "val_persons": 1},
        "codec": "dark",
        "supernet": {"schedule": schedule},
        "retrain": {"schedule": schedule, "init_from": "supernet"},
    }


def _limited(budget: Budget, macs: float) -> dict[str, Any]:
    """Return the section `search`, within a budget that is worth so many MACs."""
    limit = {"quantity": budget.counted, "at_most": round(budget.counted_limit(macs))}
    section = {"num_trials": MIN_TRIALS, "searcher": "predictor", "constraints": [limit]}
    return {"search": section}


def _opened(document: dict[str, Any], wishes: Wishes, folder: Path) -> Experiment:
    config = parse(ExperimentConfig, json.loads(json.dumps(document)), "init")
    return Experiment(config, folder, wishes.data_root, wishes.device)


def _inputs_within(
    wishes: Wishes, aspect: float, box_height: float, num_joints: int, say: Say
) -> Iterator[tuple[tuple[int, int], float]]:
    """Yield inputs, the largest first, and the budget in MACs.

    Enough of the space is within the budget there.

    Raises:
        UserError: There is no such input.
    """
    space = read_space(find_shipped("search_spaces", wishes.space, ".yaml"))
    stride = space.max_arch().total_stride
    # More pixels than a person has tell nothing new.
    heights = [one for one in HEIGHTS_PX if one <= 1.5 * box_height] or [HEIGHTS_PX[-1]]
    none_within = True
    for height in heights:
        size = (height, max(stride, round(height * aspect / stride) * stride))
        if height % stride:
            continue
        sized = space.with_facts(size, num_joints)
        macs, within = _macs_within(sized, wishes.budget)
        macs = min(macs, count_cost(sized.max_arch()).macs)
        say(f"input {size[0]} x {size[1]}: {within:.0%} of the architectures are within the budget")
        if within >= MIN_WITHIN:
            none_within = False
            yield size, macs
    if none_within:
        expected = f"one that networks of {wishes.space} can meet"
        raise UserError("--budget", expected, str(wishes.budget))


def _macs_within(space: SearchSpace, budget: Budget) -> tuple[float, float]:
    """Return the budget in MACs, and the share of architectures that is within it."""
    rng = random.Random(0)
    archs = [space.sample(rng) for _ in range(200)]
    costs = [count_cost(arch) for arch in archs]
    if not budget.is_time:
        inside = [cost.macs for cost in costs if cost.value(budget.quantity) <= budget.at_most]
        return max(inside, default=0.0), len(inside) / len(archs)
    slope, intercept = _milliseconds(archs[:NUM_MEASURED], budget)
    macs = MARGIN * (budget.at_most - intercept) / slope
    return macs, float(np.mean([cost.macs <= macs for cost in costs]))


def _milliseconds(archs: Sequence[Arch], budget: Budget) -> tuple[float, float]:
    """Fit milliseconds by MACs over measured architectures: slope and intercept."""
    key = key_of_this_machine(budget.runtime, archs[0].input_hw, budget.threads)
    with pinned(key):
        latencies = measure_archs(archs, key, max_spread=0.5)
    macs = [count_cost(arch).macs for arch in archs]
    slope, intercept = np.polyfit(macs, [latency.median_ms for latency in latencies], 1)
    return max(float(slope), 1e-12), max(0.0, float(intercept))


def _text(document: dict[str, Any], wishes: Wishes, schedule: FirstSchedule) -> str:
    """Return the commented YAML of an experiment."""
    data, budget, expected = document["data"], wishes.budget, schedule.expected
    files = {name: _flow(data[name]) for name in ("train", "test")}
    (limit,) = document["search"]["constraints"]
    training = f"batch_size: {BATCH_SIZE}, learning_rate: {LEARNING_RATE}"
    return f"""\
# Written by `vipnas init` for {budget} and {wishes.hours:g} hours on this machine.
# Expected: {expected}.
# {schedule.seconds}
# Run it:   vipnas run FILE --data-root DATA
seed: 0
space: {json.dumps(wishes.space)}
skeleton: {json.dumps(wishes.skeleton)}
input_hw: {document["input_hw"]}  # the largest within the budget that the time is enough for
data:
  train: {files["train"]}
  test: {files["test"]}
  val_persons: {data["val_persons"]}  # scores of the search; left out of the training
codec: dark
monitoring: {{probe_epochs: {schedule.probe_epochs:.1f}}}
supernet:
  # The random subnets of a step are near the budget of the search.
  # About {schedule.supernet_epochs:.1f} epochs; they are chosen when the training starts.
  schedule: {{hours: {expected.supernet / 3600:.4f}, {training}}}
search:
  num_trials: {schedule.num_trials}  # random search scores as many, for comparison
  searcher: predictor
  constraints:
    - {{quantity: {limit["quantity"]}, at_most: {limit["at_most"]}}}{budget.remark}
retrain:
  init_from: supernet  # for long trainings, scratch is as good
  # About {schedule.retrain_epochs:.1f} epochs near the budget; a smaller network has more.
  schedule: {{hours: {expected.retrain / 3600:.4f}, {training}}}
"""


def _flow(mapping: dict[str, str]) -> str:
    """Return a mapping of strings as YAML in one line."""
    return f"{{{', '.join(f'{key}: {json.dumps(value)}' for key, value in mapping.items())}}}"
