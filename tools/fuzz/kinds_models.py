"""The kinds of input of models: checkpoints, exported files, descriptions; and foreign labels."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import onnx

from tools.fuzz.mutations import changed_bytes, changed_text
from tools.fuzz.sandbox import Sandbox
from tools.fuzz.spoiling import (
    Case,
    on_experiment,
    spoil_by_suffix,
    spoil_model,
    spoil_published,
    spoil_some_bytes,
    spoil_yaml,
)

# The files of each program's labels that are spoiled, and what the command is given.
LABELS = {
    "yolo-pose": (("yolo/data.yaml", "yolo/labels/val/a.txt"), "yolo"),
    "label-studio": (("label_studio.json",), "label_studio.json"),
    "cvat": (("cvat.xml",), "cvat.xml"),
    "deeplabcut": (("deeplabcut/labeled-data/box/CollectedData_ann.csv",), "deeplabcut"),
}


def spoiled_checkpoint(sandbox: Sandbox, folder: Path, rng: random.Random) -> Case:
    sandbox.lay_out(folder)
    valid = rng.choice((sandbox.network, sandbox.network, sandbox.published))
    file = folder / valid.name
    shutil.copyfile(valid, file)
    spoil_some_bytes(file, rng, spoil_published if file.suffix == ".pth" else spoil_model)
    if rng.randrange(4) == 1:
        return Case(["convert", str(file), "--to", "published", "-o", str(folder / "out.pth")])
    return _reader(file, sandbox, folder, rng)


def spoiled_exported(sandbox: Sandbox, folder: Path, rng: random.Random) -> Case:
    sandbox.lay_out(folder)
    file = folder / "pose.onnx"
    shutil.copyfile(sandbox.exported, file)
    spoil_some_bytes(file, rng, _spoil_onnx)
    return _reader(file, sandbox, folder, rng)


def spoiled_description(sandbox: Sandbox, folder: Path, rng: random.Random) -> Case:
    """A detector, or a pose model of others."""
    for path in sandbox.foreign.iterdir():
        shutil.copyfile(path, folder / path.name)
    name = rng.choice(("pose", "detector"))
    if rng.random() < 0.8:
        spoil_yaml(folder / f"{name}.yaml", rng)
    else:
        file = folder / f"{name}.onnx"
        file.write_bytes(changed_bytes(file.read_bytes(), rng))
    model = str(folder / "pose.yaml") if name == "pose" else str(sandbox.network)
    drawn = ["predict", model, str(sandbox.photo), "-o", str(folder / "poses")]
    return Case([*drawn, "--detector", str(folder / "detector.yaml")])


def spoiled_labels(sandbox: Sandbox, folder: Path, rng: random.Random) -> Case:
    """Labels of another program."""
    copy = Path(shutil.copytree(sandbox.labels, folder / "labels"))
    program = rng.choice(sorted(LABELS))
    files, source = LABELS[program]
    spoil_by_suffix(copy / rng.choice(files), rng)
    written = ["-o", str(folder / "data.json")]
    return Case(["import-data", program, str(copy / source), *written])


def _reader(file: Path, sandbox: Sandbox, folder: Path, rng: random.Random) -> Case:
    chosen = rng.randrange(3)
    if chosen == 0:
        return Case(on_experiment("evaluate", sandbox, folder, str(file)))
    if chosen == 1:
        return Case(["info", str(file), "--json"])
    return Case(["predict", str(file), str(sandbox.photo), "-o", str(folder / "poses")])


def _spoil_onnx(file: Path, rng: random.Random) -> None:
    """Change what the file says of the network, or remove a part of its graph."""
    model = onnx.load(file)
    graph = model.graph
    if rng.random() < 0.7:
        entry = rng.choice(list(model.metadata_props))
        entry.value = changed_text(entry.value, rng).encode(errors="replace").decode()
    else:
        part = rng.choice((graph.node, graph.initializer, graph.output, graph.input))
        del part[rng.randrange(len(part))]
    file.write_bytes(model.SerializeToString())
