"""The kinds of input: how each is spoiled, and the command that then reads it."""

from __future__ import annotations

import io
import json
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from tools.fuzz.judges import Judge, average_precision_agrees, image_sizes_agree
from tools.fuzz.mutations import (
    as_json,
    as_yaml,
    changed_arguments,
    changed_bytes,
    changed_document,
    changed_text,
)
from tools.fuzz.sandbox import LATENCY, POSETRACK_DATA, Sandbox


@dataclass(frozen=True)
class Case:
    """One input: the arguments, and who else knows what comes out of a run that ends well."""

    arguments: list[str]
    judge: Judge | None = None


Make = Callable[[Sandbox, Path, random.Random], Case]


def spoiled_experiment(sandbox: Sandbox, folder: Path, rng: random.Random) -> Case:
    sandbox.lay_out(folder)
    _spoil_yaml(folder / "experiment.yaml", rng)
    return Case(_any_reader(sandbox, folder, rng))


def spoiled_space(sandbox: Sandbox, folder: Path, rng: random.Random) -> Case:
    sandbox.lay_out(folder)
    _spoil_yaml(folder / "space.yaml", rng)
    return Case(_any_reader(sandbox, folder, rng))


def spoiled_skeleton(sandbox: Sandbox, folder: Path, rng: random.Random) -> Case:
    sandbox.lay_out(folder)
    _spoil_yaml(folder / "skeleton.yaml", rng)
    return Case(_any_reader(sandbox, folder, rng))


def spoiled_arch(sandbox: Sandbox, folder: Path, rng: random.Random) -> Case:
    sandbox.lay_out(folder)
    file = folder / "arch.json"
    shutil.copyfile(sandbox.run / "search" / "best.json", file)
    _spoil_json(file, rng)
    spoiled = ["--arch", str(file)]
    sliced = [str(sandbox.supernet), *spoiled]
    chosen = rng.randrange(4)
    if chosen == 0:
        return Case(_on_experiment("evaluate", sandbox, folder, *sliced))
    if chosen == 1:
        calibrated = ["--experiment", str(folder / "experiment.yaml")]
        calibrated += ["--data-root", str(sandbox.data)]
        written = ["--to", "published", "-o", str(folder / "out.pth")]
        return Case(["convert", *sliced, *calibrated, *written])
    return Case(["cost", str(file)])


def spoiled_annotations(sandbox: Sandbox, folder: Path, rng: random.Random) -> Case:
    file = folder / "annotations.json"
    shutil.copyfile(sandbox.data / "test" / "annotations.json", file)
    _spoil_json(file, rng)
    files = {"annotations": str(file), "images": "test/images"}
    _write_experiment(sandbox, folder, test=files)
    if rng.random() < 0.5:
        return Case(_inspect(sandbox, folder))
    results = sandbox.root / "results.json"
    return _score(sandbox, folder, file, results)


def spoiled_posetrack(sandbox: Sandbox, folder: Path, rng: random.Random) -> Case:
    videos = folder / "videos"
    shutil.copytree(sandbox.data / "videos" / "annotations", videos)
    _spoil_json(rng.choice(sorted(videos.iterdir())), rng)
    data = {**POSETRACK_DATA, "test": {"posetrack": str(videos), "images": "videos"}}
    shutil.copyfile(sandbox.root / "space.yaml", folder / "space.yaml")
    document = sandbox.experiment(skeleton="posetrack_18", data=data)
    (folder / "experiment.yaml").write_bytes(as_yaml(document))
    return Case(_inspect(sandbox, folder))


def spoiled_results(sandbox: Sandbox, folder: Path, rng: random.Random) -> Case:
    sandbox.lay_out(folder)
    file = folder / "results.json"
    shutil.copyfile(sandbox.root / "results.json", file)
    _spoil_json(file, rng)
    return _score(sandbox, folder, sandbox.data / "test" / "annotations.json", file)


def spoiled_detections(sandbox: Sandbox, folder: Path, rng: random.Random) -> Case:
    file = folder / "detections.json"
    shutil.copyfile(sandbox.root / "detections.json", file)
    _spoil_json(file, rng)
    _write_experiment(sandbox, folder, detections=str(file))
    return Case(_on_experiment("evaluate", sandbox, folder, str(sandbox.network)))


def spoiled_journal(sandbox: Sandbox, folder: Path, rng: random.Random) -> Case:
    """Spoil what a finished run keeps: trials, settings, winners, metrics."""
    sandbox.lay_out(folder)
    sandbox.copy_run(folder)
    files = sorted(
        file for file in (folder / "run").rglob("*.json*") if file.name != "seconds.json"
    )
    file = folder / "run" / "search" / "trials.jsonl" if rng.random() < 0.5 else rng.choice(files)
    if file.suffix == ".jsonl":
        _spoil_lines(file, rng)
    else:
        _spoil_json(file, rng)
    command = rng.choice(("search", "search", "retrain", "train-supernet"))
    return Case(_on_experiment(command, sandbox, folder))


def spoiled_latency_table(sandbox: Sandbox, folder: Path, rng: random.Random) -> Case:
    sandbox.lay_out(folder)
    sandbox.copy_run(folder, "search", "retrain")
    file = folder / "latency.json"
    shutil.copyfile(sandbox.root / "latency.json", file)
    _spoil_json(file, rng)
    section = {**sandbox.experiment()["search"], "latency": {**LATENCY, "table": str(file)}}
    constraint = {"quantity": "latency_ms", "at_most": 1000.0}
    section |= {"constraints": [constraint], "num_trials": 1}
    (folder / "experiment.yaml").write_bytes(as_yaml(sandbox.experiment(search=section)))
    return Case(_on_experiment("search", sandbox, folder))


def spoiled_image(sandbox: Sandbox, folder: Path, rng: random.Random) -> Case:
    images = folder / "images"
    shutil.copytree(sandbox.data / "test" / "images", images)
    file = rng.choice(sorted(images.iterdir()))
    file.write_bytes(changed_bytes(file.read_bytes(), rng))
    if rng.random() < 0.5:
        drawn = ["predict", str(sandbox.network), str(file), "-o", str(folder / "poses")]
        return Case(drawn, image_sizes_agree([file], None))
    files = {"annotations": "test/annotations.json", "images": str(images)}
    _write_experiment(sandbox, folder, test=files)
    judge = image_sizes_agree(sorted(images.iterdir()), (64, 64))
    more = rng.choice(([], ["--skip-bad-images"]))
    return Case(_inspect(sandbox, folder, *more), None if more else judge)


def spoiled_checkpoint(sandbox: Sandbox, folder: Path, rng: random.Random) -> Case:
    sandbox.lay_out(folder)
    valid = rng.choice((sandbox.network, sandbox.network, sandbox.published))
    file = folder / valid.name
    shutil.copyfile(valid, file)
    if rng.random() < 0.3:
        file.write_bytes(changed_bytes(file.read_bytes(), rng))
    elif file.suffix == ".pth":
        _spoil_published(file, rng)
    else:
        _spoil_model(file, rng)
    model = str(file)
    chosen = rng.randrange(4)
    if chosen == 0:
        return Case(_on_experiment("evaluate", sandbox, folder, model))
    if chosen == 1:
        return Case(["convert", model, "--to", "published", "-o", str(folder / "out.pth")])
    if chosen == 2:
        return Case(["info", model, "--json"])
    photo = str(sandbox.data / "test" / "images" / "000001.jpg")
    return Case(["predict", model, photo, "-o", str(folder / "poses")])


def spoiled_arguments(sandbox: Sandbox, folder: Path, rng: random.Random) -> Case:
    sandbox.lay_out(folder)
    sandbox.copy_run(folder)
    network = str(sandbox.network)
    best = str(sandbox.run / "search" / "best.json")
    photo = str(sandbox.data / "test" / "images" / "000001.jpg")
    valid = rng.choice(
        (
            _on_experiment("search", sandbox, folder, "--name", "a"),
            _on_experiment("retrain", sandbox, folder),
            _on_experiment("evaluate", sandbox, folder, network, "--split", "test"),
            _inspect(sandbox, folder, "--augmented"),
            ["cost", best, "--json"],
            ["convert", network, "--to", "published", "-o", "out.pth"],
            ["predict", network, photo, "-o", "p"],
        )
    )
    known = (
        "--json",
        "--arch",
        "--experiment",
        "--split",
        "--name",
        "--device",
        "--output",
        "--help",
    )
    return Case(changed_arguments(valid, known, rng))


# With each kind, in how many of a hundred inputs it is drawn.
KINDS: dict[str, tuple[Make, int]] = {
    "experiment": (spoiled_experiment, 14),
    "space": (spoiled_space, 10),
    "skeleton": (spoiled_skeleton, 6),
    "arch": (spoiled_arch, 12),
    "annotations": (spoiled_annotations, 14),
    "posetrack": (spoiled_posetrack, 6),
    "results": (spoiled_results, 8),
    "detections": (spoiled_detections, 6),
    "journal": (spoiled_journal, 6),
    "latency_table": (spoiled_latency_table, 4),
    "image": (spoiled_image, 6),
    "checkpoint": (spoiled_checkpoint, 6),
    "arguments": (spoiled_arguments, 8),
}


def _spoil(
    file: Path, load: Callable[[bytes], Any], dump: Callable[[Any], bytes], rng: random.Random
) -> None:
    """Mostly change values, so that the file is still of its format."""
    content = file.read_bytes()
    as_document = rng.random() < 0.85
    spoiled = (
        dump(changed_document(load(content), rng)) if as_document else changed_bytes(content, rng)
    )
    file.write_bytes(spoiled)


def _spoil_json(file: Path, rng: random.Random) -> None:
    _spoil(file, json.loads, as_json, rng)


def _spoil_yaml(file: Path, rng: random.Random) -> None:
    _spoil(file, yaml.safe_load, as_yaml, rng)


def _spoil_lines(file: Path, rng: random.Random) -> None:
    """One line of JSON lines; or bytes anywhere, line ends too."""
    if rng.random() < 0.3:
        file.write_bytes(changed_bytes(file.read_bytes(), rng))
        return
    lines = file.read_bytes().splitlines()
    number = rng.randrange(len(lines))
    lines[number] = as_json(changed_document(json.loads(lines[number]), rng))
    file.write_bytes(b"\n".join(lines) + b"\n")


def _spoil_model(file: Path, rng: random.Random) -> None:
    """The header of a safetensors file: what it says of its tensors, or of the network."""
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    if rng.random() < 0.3:
        header = changed_document(header, rng)
    else:
        facts = header["__metadata__"]
        name = rng.choice(sorted(facts))
        facts[name] = changed_text(facts[name], rng)
    spoiled = as_json(header)
    file.write_bytes(len(spoiled).to_bytes(8, "little") + spoiled + content[8 + length :])


def _spoil_published(file: Path, rng: random.Random) -> None:
    """Replace one entry, or one tensor by another of its name."""
    content = holder = torch.load(file, weights_only=True)
    while True:
        key = rng.choice(sorted(holder, key=str))
        if not isinstance(holder[key], dict) or not holder[key] or rng.random() < 0.2:
            break
        holder = holder[key]
    tensor = holder[key] if isinstance(holder[key], torch.Tensor) else torch.ones(2, 3)
    holder[key] = rng.choice(
        (
            *(None, 1, "x", [1], {}, float("nan"), tensor.flatten(), tensor.unsqueeze(0)),
            *(tensor * float("nan"), tensor.to(torch.int64), tensor.to("meta")),
            tensor.flatten()[:0],
        )
    )
    buffer = io.BytesIO()
    torch.save(content, buffer)
    file.write_bytes(buffer.getvalue())


def _write_experiment(sandbox: Sandbox, folder: Path, **data: Any) -> None:
    """The experiment of a case, with other files in its section `data`."""
    sandbox.lay_out(folder)
    document = sandbox.experiment()
    document["data"] |= data
    (folder / "experiment.yaml").write_bytes(as_yaml(document))


def _on_experiment(command: str, sandbox: Sandbox, folder: Path, *more: str) -> list[str]:
    places = ["--output", str(folder / "run"), "--data-root", str(sandbox.data)]
    return [command, str(folder / "experiment.yaml"), *places, "--device", "cpu", *more]


def _inspect(sandbox: Sandbox, folder: Path, *more: str) -> list[str]:
    sheet = ("--split", "test", "--num-persons", "4", "--sheet", str(folder / "sheet.png"))
    return _on_experiment("inspect-data", sandbox, folder, *sheet, *more)


def _score(sandbox: Sandbox, folder: Path, truth: Path, found: Path) -> Case:
    scored = _on_experiment("evaluate", sandbox, folder, str(found), "--from-results", "--json")
    return Case(scored, average_precision_agrees(truth, found))


def _any_reader(sandbox: Sandbox, folder: Path, rng: random.Random) -> list[str]:
    """A command that reads the experiment: on a finished run, or only on its data."""
    chosen = rng.randrange(6)
    if chosen == 0:
        found = str(sandbox.root / "results.json")
        return _on_experiment("evaluate", sandbox, folder, found, "--from-results")
    if chosen < 4:
        return _inspect(sandbox, folder)
    sandbox.copy_run(folder)
    command = rng.choice(("search", "train-supernet", "retrain"))
    return _on_experiment(command, sandbox, folder)
