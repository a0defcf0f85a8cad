"""The kinds of input of commands around a run: labels, reports, drawings, a first experiment."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from tools.fuzz.mutations import changed_arguments, changed_bytes, changed_text
from tools.fuzz.sandbox import Sandbox
from tools.fuzz.spoiling import Case, spoil_by_suffix, spoil_json, spoil_model

# Files of a run that no command reads.
NOT_READ = {"seconds.json", "report.html"}
BUDGETS = ("10 MMACs", "0.05 Mparams", "100 kparams", "1 GMACs")
SHELLS = ("bash", "zsh", "fish")
OPTIONS = (
    *("--json", "--format", "--precision", "--beside", "--metrics", "--name", "--help", "--every"),
    *("--calibrate-on", "--people", "--difficulty", "--video"),
)


def spoiled_pseudo_labels(sandbox: Sandbox, folder: Path, rng: random.Random) -> Case:
    """The model that labels, the picture, or the labels on which thresholds are calibrated."""
    model, picture, truth = folder / "model.safetensors", folder / "a.jpg", folder / "truth.json"
    shutil.copyfile(sandbox.network, model)
    shutil.copyfile(sandbox.photo, picture)
    shutil.copyfile(sandbox.root / "pseudo_labels.json", truth)
    written = ["-o", str(folder / "labels.json"), "--min-score", "0"]
    images = str(sandbox.data / "test" / "images")
    calibrated = ["--calibrate-on", str(truth), "--calibrate-images", images, "--precision", "0.5"]
    chosen = rng.randrange(4)
    if chosen == 0:
        spoil_model(model, rng)
    elif chosen == 1:
        picture.write_bytes(changed_bytes(picture.read_bytes(), rng))
    else:
        spoil_json(truth, rng)
    label = ["label", str(model), str(picture), *written]
    return Case([*label, *calibrated] if chosen > 1 or rng.random() < 0.3 else label)


def spoiled_report(sandbox: Sandbox, folder: Path, rng: random.Random) -> Case:
    """The report of a run of which one file is spoiled, or of metrics beside it."""
    run = folder / "run"
    shutil.copytree(sandbox.video_run if rng.random() < 0.4 else sandbox.run, run)
    metrics = folder / "metrics.json"
    shutil.copyfile(sandbox.root / "metrics.json", metrics)
    readable = (".json", ".jsonl", ".safetensors", ".yaml")
    files = [file for file in run.rglob("*") if file.suffix in readable]
    files = sorted(file for file in files if file.name not in NOT_READ)
    file = metrics if rng.random() < 0.2 else rng.choice(files)
    spoil_by_suffix(file, rng)
    beside = ["--metrics", str(metrics)] if file == metrics else []
    return Case(["report", str(run), "-o", str(folder / "page.html"), *beside])


def spoiled_drawing(sandbox: Sandbox, folder: Path, rng: random.Random) -> Case:
    """Two architectures and a latency table, of which one is spoiled."""
    level = sandbox.video_run / "video" if rng.random() < 0.4 else sandbox.run
    arch, model, table = folder / "arch.json", folder / "model.safetensors", folder / "latency.json"
    shutil.copyfile(level / "search" / "best.json", arch)
    shutil.copyfile(level / "retrain" / "network.safetensors", model)
    shutil.copyfile(sandbox.root / "latency.json", table)
    file = rng.choice((arch, arch, model, table))
    (spoil_model if file is model else spoil_json)(file, rng)
    drawn = [str(arch), str(model)]
    measured = ["--latency-table", str(table)] if file is table else []
    return Case(["draw", *drawn, *measured, "-o", str(folder / "arch.svg")])


def spoiled_first_experiment(sandbox: Sandbox, folder: Path, rng: random.Random) -> Case:
    """The answers of `init`, or the annotations that it looks at."""
    train = folder / "train.json"
    shutil.copyfile(sandbox.data / "train" / "annotations.json", train)
    budget, hours = rng.choice(BUDGETS), "1"
    chosen = rng.randrange(3)
    if chosen == 0:
        budget = changed_text(budget, rng)
    elif chosen == 1:
        hours = changed_text(hours, rng)
    else:
        spoil_json(train, rng)
    data = ["--train", str(train), "--images", "train/images", "--data-root", str(sandbox.data)]
    test = ["--test", "test/annotations.json", "--test-images", "test/images"]
    wishes = [f"--budget={budget}", f"--hours={hours}", "--space", str(sandbox.root / "space.yaml")]
    return Case(["init", "-o", str(folder / "first.yaml"), *data, *test, *wishes])


def spoiled_command(sandbox: Sandbox, folder: Path, rng: random.Random) -> Case:
    """Arguments of commands that no other kind runs."""
    sandbox.lay_out(folder)
    network, best = str(sandbox.network), str(sandbox.run / "search" / "best.json")
    shutil.copytree(sandbox.run, folder / "run")
    valid = rng.choice(
        (
            ["synthesize", "--output", "people", "--num-images", "2", "--image-hw", "64", "64"],
            ["completion", rng.choice(SHELLS)],
            ["doctor", "--json"],
            ["draw", best, "-o", "arch.svg"],
            ["report", "run", "-o", "page.html"],
            ["label", network, str(sandbox.photo), "-o", "labels.json", "--min-score", "0"],
            ["info", network],
            ["export", network, "-o", "pose.onnx"],
        )
    )
    return Case(changed_arguments(valid, OPTIONS, rng))
