"""Split persons by whole images or videos: a validation set, a smaller training set."""

from __future__ import annotations

from collections import Counter

import numpy as np

from vipnas.data.formats.coco import PoseData
from vipnas.errors import UserError


def hold_out(
    data: PoseData, num_persons: int, seed: int, part: PoseData | None = None
) -> tuple[PoseData, PoseData]:
    """Split off a validation set of at least `num_persons` persons.

    Persons that a model labelled are left in the rest, unless all persons are such.
    Whole images, or whole videos, whose frames are similar, are chosen in random order until they
    have enough persons. The order depends on the seed and the ids only.

    Args:
        data: What is split.
        num_persons: Least number of persons in the validation set.
        seed: Seed of the random order.
        part: Some of the files of `data`, read without the others. The validation set is taken out
            of them, and has their ids: it is the same whatever else `data` has. By default it is
            taken out of `data`.

    Returns:
        The rest of `data` and the validation set. They share no image, and keep the order of the
        file. With `part`, ids in one say nothing about ids in the other.

    Raises:
        UserError: Nothing would remain for training, or `num_persons` is below 1.
    """
    source = data if part is None else part
    counts = _persons_in_units(source, real_only=True)
    drawn: set[int | str] = set()
    num_drawn = 0
    for unit in _shuffled(counts, seed):
        if num_drawn >= num_persons:
            break
        drawn.add(unit)
        num_drawn += counts[unit]
    images = source.ground_truth["images"]
    held_out = {image["id"] for image in images if source.unit_of(image) in drawn}
    val = source.restricted_to(held_out)
    rest = data.restricted_to(_images_outside(val, data, by_path=part is not None))
    if num_persons < 1 or num_drawn < num_persons or not rest.persons:
        raise UserError(
            f"{source.source}: data.val_persons",
            "at least 1, and an image or video left for training",
            f"{num_persons} of {sum(counts.values())} persons in {len(counts)} images or videos",
            "" if part is None else "lower it, or name more files in data.val_from",
        )
    return rest, val


def subset(data: PoseData, max_persons: int, seed: int) -> PoseData:
    """Return at most `max_persons` persons in whole images or videos, chosen by the seed.

    Raises:
        UserError: Every image or video has more persons than that.
    """
    if len(data.persons) <= max_persons:
        return data
    counts = _persons_in_units(data)
    chosen: set[int | str] = set()
    room = max_persons
    for unit in _shuffled(counts, seed):
        if counts[unit] <= room:
            chosen.add(unit)
            room -= counts[unit]
    if not chosen:
        raise UserError(
            f"{data.source}: data.max_train_persons",
            f"at least {min(counts.values())}, the fewest persons in an image or video",
            str(max_persons),
        )
    images = data.ground_truth["images"]
    return data.restricted_to({image["id"] for image in images if data.unit_of(image) in chosen})


def _images_outside(val: PoseData, data: PoseData, by_path: bool) -> set[int]:
    """Return the ids of the images of `data` that are not in the validation set."""
    if by_path:
        paths = {*val.image_paths.values()}
        return {image_id for image_id, path in data.image_paths.items() if path not in paths}
    ids = {image["id"] for image in data.ground_truth["images"]}
    return ids - {image["id"] for image in val.ground_truth["images"]}


def _persons_in_units(data: PoseData, real_only: bool = False) -> Counter[int | str]:
    """Return the number of persons of each unit, without pseudo-labelled ones if others exist."""
    units = {image["id"]: data.unit_of(image) for image in data.ground_truth["images"]}
    real = [person for person in data.persons if not person.is_pseudo]
    counted = real if real and real_only else data.persons
    return Counter(units[person.image_id] for person in counted)


def _shuffled(units: Counter[int | str], seed: int) -> list[int | str]:
    ordered = sorted(units)  # all are numbers, or all are names
    return [ordered[place] for place in np.random.default_rng(seed).permutation(len(ordered))]
