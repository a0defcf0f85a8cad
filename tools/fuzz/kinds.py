"""The kinds of input: how each is spoiled, and the command that then reads it."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from tools.fuzz.judges import image_sizes_agree
from tools.fuzz.kinds_commands import (
    spoiled_command,
    spoiled_drawing,
    spoiled_first_experiment,
    spoiled_pseudo_labels,
    spoiled_report,
)
from tools.fuzz.kinds_models import (
    spoiled_checkpoint,
    spoiled_description,
    spoiled_exported,
    spoiled_labels,
)
from tools.fuzz.kinds_training import (
    spoiled_benchmark,
    spoiled_chain,
    spoiled_demo,
    spoiled_failure,
    spoiled_profile,
)
from tools.fuzz.kinds_video import (
    spoiled_clip,
    spoiled_film,
    spoiled_posetrack,
    spoiled_tracks,
    spoiled_video_experiment,
)
from tools.fuzz.mutations import as_yaml, changed_arguments, changed_bytes
from tools.fuzz.sandbox import LATENCY, Sandbox
from tools.fuzz.spoiling import (
    Case,
    Make,
    any_reader,
    inspect,
    on_experiment,
    score,
    spoil_json,
    spoil_lines,
    spoil_yaml,
    write_experiment,
)


def spoiled_yaml(name: str) -> Make:
    """An experiment, its space or its skeleton."""

    def make(sandbox: Sandbox, folder: Path, rng: random.Random) -> Case:
        sandbox.lay_out(folder)
        spoil_yaml(folder / name, rng)
        return Case(any_reader(sandbox, folder, rng))

    return make


def spoiled_arch(sandbox: Sandbox, folder: Path, rng: random.Random) -> Case:
    sandbox.lay_out(folder)
    file = folder / "arch.json"
    shutil.copyfile(sandbox.run / "search" / "best.json", file)
    spoil_json(file, rng)
    spoiled = ["--arch", str(file)]
    sliced = [str(sandbox.supernet), *spoiled]
    chosen = rng.randrange(4)
    if chosen == 0:
        return Case(on_experiment("evaluate", sandbox, folder, *sliced))
    if chosen == 1:
        calibrated = ["--experiment", str(folder / "experiment.yaml")]
        calibrated += ["--data-root", str(sandbox.data)]
        written = ["--to", "published", "-o", str(folder / "out.pth")]
        return Case(["convert", *sliced, *calibrated, *written])
    return Case(["cost", str(file)])


def spoiled_annotations(sandbox: Sandbox, folder: Path, rng: random.Random) -> Case:
    file = folder / "annotations.json"
    shutil.copyfile(sandbox.data / "test" / "annotations.json", file)
    spoil_json(file, rng)
    files = {"annotations": str(file), "images": "test/images"}
    write_experiment(sandbox, folder, test=files)
    if rng.random() < 0.5:
        return Case(inspect(sandbox, folder))
    results = sandbox.root / "results.json"
    return score(sandbox, folder, file, results)


def spoiled_results(sandbox: Sandbox, folder: Path, rng: random.Random) -> Case:
    sandbox.lay_out(folder)
    file = folder / "results.json"
    shutil.copyfile(sandbox.root / "results.json", file)
    spoil_json(file, rng)
    return score(sandbox, folder, sandbox.data / "test" / "annotations.json", file)


def spoiled_detections(sandbox: Sandbox, folder: Path, rng: random.Random) -> Case:
    file = folder / "detections.json"
    shutil.copyfile(sandbox.root / "detections.json", file)
    spoil_json(file, rng)
    write_experiment(sandbox, folder, detections=str(file))
    return Case(on_experiment("evaluate", sandbox, folder, str(sandbox.network)))


def spoiled_journal(sandbox: Sandbox, folder: Path, rng: random.Random) -> Case:
    """Spoil what a finished run keeps: trials, settings, winners, metrics."""
    sandbox.lay_out(folder)
    sandbox.copy_run(folder)
    files = sorted(
        file for file in (folder / "run").rglob("*.json*") if file.name != "seconds.json"
    )
    file = folder / "run" / "search" / "trials.jsonl" if rng.random() < 0.5 else rng.choice(files)
    if file.suffix == ".jsonl":
        spoil_lines(file, rng)
    else:
        spoil_json(file, rng)
    command = rng.choice(("search", "search", "retrain", "train-supernet"))
    return Case(on_experiment(command, sandbox, folder))


def spoiled_latency_table(sandbox: Sandbox, folder: Path, rng: random.Random) -> Case:
    sandbox.lay_out(folder)
    sandbox.copy_run(folder, "search", "retrain")
    file = folder / "latency.json"
    shutil.copyfile(sandbox.root / "latency.json", file)
    spoil_json(file, rng)
    section = {**sandbox.experiment()["search"], "latency": {**LATENCY, "table": str(file)}}
    constraint = {"quantity": "latency_ms", "at_most": 1000.0}
    section |= {"constraints": [constraint], "num_trials": 1}
    (folder / "experiment.yaml").write_bytes(as_yaml(sandbox.experiment(search=section)))
    return Case(on_experiment("search", sandbox, folder))


def spoiled_image(sandbox: Sandbox, folder: Path, rng: random.Random) -> Case:
    images = folder / "images"
    shutil.copytree(sandbox.data / "test" / "images", images)
    file = rng.choice(sorted(images.iterdir()))
    file.write_bytes(changed_bytes(file.read_bytes(), rng))
    if rng.random() < 0.5:
        drawn = ["predict", str(sandbox.network), str(file), "-o", str(folder / "poses")]
        return Case(drawn, image_sizes_agree([file], None))
    files = {"annotations": "test/annotations.json", "images": str(images)}
    write_experiment(sandbox, folder, test=files)
    judge = image_sizes_agree(sorted(images.iterdir()), (64, 64))
    more = rng.choice(([], ["--skip-bad-images"]))
    return Case(inspect(sandbox, folder, *more), None if more else judge)


def spoiled_arguments(sandbox: Sandbox, folder: Path, rng: random.Random) -> Case:
    sandbox.lay_out(folder)
    sandbox.copy_run(folder)
    network = str(sandbox.network)
    best = str(sandbox.run / "search" / "best.json")
    photo = str(sandbox.data / "test" / "images" / "000001.jpg")
    valid = rng.choice(
        (
            on_experiment("search", sandbox, folder, "--name", "a"),
            on_experiment("retrain", sandbox, folder),
            on_experiment("evaluate", sandbox, folder, network, "--split", "test"),
            inspect(sandbox, folder, "--augmented"),
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


# With each kind, how often it is drawn, beside the others.
KINDS: dict[str, tuple[Make, int]] = {
    "experiment": (spoiled_yaml("experiment.yaml"), 12),
    "space": (spoiled_yaml("space.yaml"), 9),
    "skeleton": (spoiled_yaml("skeleton.yaml"), 6),
    "arch": (spoiled_arch, 11),
    "annotations": (spoiled_annotations, 12),
    "posetrack": (spoiled_posetrack, 5),
    "tracks": (spoiled_tracks, 4),
    "results": (spoiled_results, 7),
    "detections": (spoiled_detections, 5),
    "journal": (spoiled_journal, 4),
    "latency_table": (spoiled_latency_table, 3),
    "image": (spoiled_image, 6),
    "film": (spoiled_film, 2),
    "checkpoint": (spoiled_checkpoint, 5),
    "clip": (spoiled_clip, 4),
    "video_experiment": (spoiled_video_experiment, 3),
    "exported": (spoiled_exported, 4),
    "description": (spoiled_description, 4),
    "labels": (spoiled_labels, 5),
    "pseudo_labels": (spoiled_pseudo_labels, 4),
    "report": (spoiled_report, 4),
    "drawing": (spoiled_drawing, 3),
    "first_experiment": (spoiled_first_experiment, 3),
    "command": (spoiled_command, 4),
    "chain": (spoiled_chain, 3),
    "failure": (spoiled_failure, 3),
    "profile": (spoiled_profile, 1),
    "benchmark": (spoiled_benchmark, 1),
    "demo": (spoiled_demo, 1),
    "arguments": (spoiled_arguments, 7),
}
