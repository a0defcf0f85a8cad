"""How inputs are spoiled, and the commands that read them."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from tools.fuzz.judges import Judge, average_precision_agrees
from tools.fuzz.mutations import as_json, as_yaml, changed_bytes, changed_document, changed_text
from tools.fuzz.sandbox import Sandbox


@dataclass(frozen=True)
class Case:
    """One input: the arguments, and who else knows what comes out of a run that ends well."""

    arguments: list[str]
    judge: Judge | None = None


Make = Callable[[Sandbox, Path, random.Random], Case]
Spoil = Callable[[Path, random.Random], None]


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


def spoil_json(file: Path, rng: random.Random) -> None:
    _spoil(file, json.loads, as_json, rng)


def spoil_yaml(file: Path, rng: random.Random) -> None:
    _spoil(file, yaml.safe_load, as_yaml, rng)


def spoil_lines(file: Path, rng: random.Random) -> None:
    """One line of JSON lines; or bytes anywhere, line ends too."""
    spoil_some_bytes(file, rng, _spoil_a_line)


def _spoil_a_line(file: Path, rng: random.Random) -> None:
    lines = file.read_bytes().splitlines()
    number = rng.randrange(len(lines))
    lines[number] = as_json(changed_document(json.loads(lines[number]), rng))
    file.write_bytes(b"\n".join(lines) + b"\n")


def spoil_model(file: Path, rng: random.Random) -> None:
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


def spoil_by_suffix(file: Path, rng: random.Random) -> None:
    """Spoil a file by what its kind contains; of other kinds, bytes anywhere."""
    spoilers: dict[str, Spoil] = {
        ".json": spoil_json,
        ".jsonl": spoil_lines,
        ".safetensors": spoil_model,
        ".yaml": spoil_yaml,
    }
    if spoil := spoilers.get(file.suffix):
        spoil(file, rng)
    else:
        file.write_bytes(changed_bytes(file.read_bytes(), rng))


def spoil_some_bytes(file: Path, rng: random.Random, otherwise: Spoil) -> None:
    """In three of ten files change bytes anywhere; spoil the others by what they contain."""
    if rng.random() < 0.3:
        file.write_bytes(changed_bytes(file.read_bytes(), rng))
    else:
        otherwise(file, rng)


def spoil_published(file: Path, rng: random.Random) -> None:
    """Replace one entry, or one tensor by another of its name; of texts, mostly change a part."""
    content = holder = torch.load(file, weights_only=True)
    while True:
        key = rng.choice(sorted(holder, key=str))
        if not isinstance(holder[key], dict) or not holder[key] or rng.random() < 0.2:
            break
        holder = holder[key]
    tensor = holder[key] if isinstance(holder[key], torch.Tensor) else torch.ones(2, 3)
    if isinstance(holder[key], str) and rng.random() < 0.7:
        holder[key] = changed_text(holder[key], rng)
    else:
        holder[key] = _strange_instead(tensor, rng)
    buffer = io.BytesIO()
    torch.save(content, buffer)
    file.write_bytes(buffer.getvalue())


def _strange_instead(tensor: torch.Tensor, rng: random.Random) -> Any:
    return rng.choice(
        (
            *(None, 1, "x", [1], {}, float("nan"), tensor.flatten(), tensor.unsqueeze(0)),
            *(tensor * float("nan"), tensor.to(torch.int64), tensor.to("meta")),
            tensor.flatten()[:0],
        )
    )


def write_experiment(sandbox: Sandbox, folder: Path, **data: Any) -> None:
    """The experiment of a case, with other files in its section `data`."""
    sandbox.lay_out(folder)
    document = sandbox.experiment()
    document["data"] |= data
    (folder / "experiment.yaml").write_bytes(as_yaml(document))


def on_experiment(command: str, sandbox: Sandbox, folder: Path, *more: str) -> list[str]:
    places = ["--output", str(folder / "run"), "--data-root", str(sandbox.data)]
    return [*command.split(), str(folder / "experiment.yaml"), *places, "--device", "cpu", *more]


def inspect(sandbox: Sandbox, folder: Path, *more: str) -> list[str]:
    sheet = ("--split", "test", "--num-persons", "4", "--sheet", str(folder / "sheet.png"))
    return on_experiment("inspect-data", sandbox, folder, *sheet, *more)


def score(sandbox: Sandbox, folder: Path, truth: Path, found: Path) -> Case:
    scored = on_experiment("evaluate", sandbox, folder, str(found), "--from-results", "--json")
    return Case(scored, average_precision_agrees(truth, found))


def any_reader(sandbox: Sandbox, folder: Path, rng: random.Random) -> list[str]:
    """A command that reads the experiment: on a finished run, or only on its data."""
    chosen = rng.randrange(6)
    if chosen == 0:
        found = str(sandbox.root / "results.json")
        return on_experiment("evaluate", sandbox, folder, found, "--from-results")
    if chosen < 4:
        return inspect(sandbox, folder)
    sandbox.copy_run(folder)
    command = rng.choice(("search", "train-supernet", "retrain"))
    return on_experiment(command, sandbox, folder)
