"""The kinds of input of commands that train, measure time, or show what was trained."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from tools.fuzz.mutations import changed_arguments
from tools.fuzz.sandbox import Sandbox
from tools.fuzz.spoiling import (
    Case,
    on_experiment,
    spoil_model,
    spoil_published,
    spoil_some_bytes,
    spoil_yaml,
)

# As little as can be measured, on a machine as busy as can be.
MEASURED = ["--max-spread", "1000000", "--threads", "1"]
OPTIONS = ("--seed", "--num-frames", "--format", "--precision", "--batch", "--runtime", "--json")


def spoiled_chain(sandbox: Sandbox, folder: Path, rng: random.Random) -> Case:
    """`run`, where stages are done: of images, or of clips."""
    if rng.random() < 0.3:
        sandbox.lay_out_video(folder)
        shutil.copytree(sandbox.video_run, folder / "run")
    else:
        sandbox.lay_out(folder)
        sandbox.copy_run(folder)
    spoil_yaml(folder / rng.choice(("experiment.yaml", "experiment.yaml", "space.yaml")), rng)
    return Case(on_experiment("run", sandbox, folder))


def spoiled_failure(sandbox: Sandbox, folder: Path, rng: random.Random) -> Case:
    """The file of a failed step."""
    file = folder / "failure.pt"
    shutil.copyfile(sandbox.failure, file)
    spoil_some_bytes(file, rng, spoil_published)
    return Case(["replay", str(file)])


def spoiled_profile(sandbox: Sandbox, folder: Path, rng: random.Random) -> Case:
    """The space whose latencies are measured."""
    space = folder / "space.yaml"
    shutil.copyfile(sandbox.root / "space.yaml", space)
    spoil_yaml(space, rng)
    amount = ["--num-archs", "2", "--num-blocks", "1", "--runtime", "torch", *MEASURED]
    return Case(["profile", str(space), "--output", str(folder / "latency.json"), *amount])


def spoiled_benchmark(sandbox: Sandbox, folder: Path, rng: random.Random) -> Case:
    """The model whose formats are compared."""
    file = folder / "model.safetensors"
    shutil.copyfile(sandbox.network, file)
    spoil_some_bytes(file, rng, spoil_model)
    compared = ["--format", "onnx", "--precision", "fp32", *MEASURED]
    return Case(["benchmark", str(file), *compared, "-o", str(folder / "found.json")])


def spoiled_demo(sandbox: Sandbox, folder: Path, rng: random.Random) -> Case:
    """The model of one of both levels, or the arguments."""
    image_run, video_run = folder / "image", folder / "video"
    shutil.copytree(sandbox.run / "retrain", image_run / "retrain")
    shutil.copytree(sandbox.clip.parent, video_run / "video" / "retrain")
    files = (
        image_run / "retrain" / sandbox.network.name,
        video_run / "video" / "retrain" / sandbox.clip.name,
    )
    valid = ["demo", "--run", str(image_run), "--video-run", str(video_run)]
    valid += ["-o", str(folder / "demo.webm"), "--num-frames", "2", "--seed", "1"]
    if rng.random() < 0.3:
        return Case(changed_arguments(valid, OPTIONS, rng))
    spoil_some_bytes(rng.choice(files), rng, spoil_model)
    return Case(valid)
