"""The kinds of input of videos: PoseTrack files, results with tracks, networks of clips, films."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from tools.fuzz.judges import posetrack_agrees
from tools.fuzz.mutations import as_yaml, changed_bytes
from tools.fuzz.sandbox import POSETRACK_DATA, Sandbox
from tools.fuzz.spoiling import (
    Case,
    inspect,
    on_experiment,
    spoil_json,
    spoil_model,
    spoil_some_bytes,
    spoil_yaml,
)


def spoiled_posetrack(sandbox: Sandbox, folder: Path, rng: random.Random) -> Case:
    videos = folder / "videos"
    shutil.copytree(sandbox.data / "videos" / "annotations", videos)
    spoil_json(rng.choice(sorted(videos.iterdir())), rng)
    _write_experiment(sandbox, folder, videos)
    if rng.random() < 0.5:
        return Case(inspect(sandbox, folder))
    return _score(sandbox, folder, videos, sandbox.root / "tracks.json", rng)


def spoiled_tracks(sandbox: Sandbox, folder: Path, rng: random.Random) -> Case:
    videos = sandbox.data / "videos" / "annotations"
    _write_experiment(sandbox, folder, videos)
    file = folder / "tracks.json"
    shutil.copyfile(sandbox.root / "tracks.json", file)
    spoil_json(file, rng)
    return _score(sandbox, folder, videos, file, rng)


def spoiled_clip(sandbox: Sandbox, folder: Path, rng: random.Random) -> Case:
    sandbox.lay_out_video(folder)
    file = folder / "clip.safetensors"
    shutil.copyfile(sandbox.clip, file)
    spoil_some_bytes(file, rng, spoil_model)
    chosen = rng.randrange(4)
    if chosen == 3:
        return Case(["video", "export", str(file), "-o", str(folder / "exported")])
    if chosen == 0:
        return Case(on_experiment("video evaluate", sandbox, folder, str(file)))
    if chosen == 1:
        return Case(["info", str(file), "--json"])
    return Case(["predict", str(file), str(sandbox.film), "-o", str(folder / "poses.json")])


def spoiled_video_experiment(sandbox: Sandbox, folder: Path, rng: random.Random) -> Case:
    sandbox.lay_out_video(folder)
    spoil_yaml(folder / rng.choice(("experiment.yaml", "experiment.yaml", "space.yaml")), rng)
    if rng.random() < 0.4:
        return Case(on_experiment("video evaluate", sandbox, folder, str(sandbox.clip)))
    shutil.copytree(sandbox.video_run, folder / "run")
    command = rng.choice(("video search", "video train-supernet", "video retrain"))
    return Case(on_experiment(command, sandbox, folder))


def spoiled_film(sandbox: Sandbox, folder: Path, rng: random.Random) -> Case:
    file = folder / "film.avi"
    file.write_bytes(changed_bytes(sandbox.film.read_bytes(), rng))
    model = rng.choice((sandbox.network, sandbox.clip))
    return Case(["predict", str(model), str(file), "-o", str(folder / "poses.json")])


def _write_experiment(sandbox: Sandbox, folder: Path, videos: Path) -> None:
    data = {**POSETRACK_DATA, "test": {"posetrack": str(videos), "images": "videos"}}
    shutil.copyfile(sandbox.root / "space.yaml", folder / "space.yaml")
    document = sandbox.experiment(skeleton="posetrack_18", data=data)
    (folder / "experiment.yaml").write_bytes(as_yaml(document))


def _score(sandbox: Sandbox, folder: Path, videos: Path, found: Path, rng: random.Random) -> Case:
    """Half of the time without MOTA, which takes ten times as long as all else."""
    metrics = ("--metrics", "posetrack", *(("mota",) if rng.random() < 0.5 else ()))
    scored = on_experiment(
        "evaluate", sandbox, folder, str(found), "--from-results", "--json", *metrics
    )
    return Case(scored, posetrack_agrees(videos, sandbox.data / "videos", found))
