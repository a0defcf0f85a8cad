"""Every command and snippet of the documentation runs, in a folder with small stand-ins.

Lines with the words `not run here` are left out. Each page starts with the same folder.
"""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from docs_fixture import PAGES, ROOT, commands, python_blocks
from experiment_fixture import EXPERIMENT, draw_people
from test_chain_video import EXPERIMENT as VIDEO_EXPERIMENT

from vipnas.cli.main import main
from vipnas.shipped import find_shipped

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

# What stands for something of the reader's, or takes long, and what is run in its place.
IN_PLACE = {
    "quickstart": "quickstart.yaml",
    "quickstart_video": "quickstart_video.yaml",
    "synthetic_pretrain": "quickstart.yaml",
    "EXPERIMENT": "quickstart.yaml",
    "runs/NAME/search/pareto.json": "runs/quickstart/search/pareto.json",
    "DATA": "data",
    "lat_vipnas": "tiny",
    "8": "2",
}
# Milliseconds are refused on a busy machine. Here they are taken: no test looks at them.
MEASURING = {"--latency", "benchmark"}
ANY_SPREAD = ["--max-spread", "1000"]
IMPORTS = ROOT / "tests" / "artefacts" / "imports"
SHORT = {"epochs": 0.5, "batch_size": 4, "learning_rate": 1e-3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, runs, models, photographs and videos under the names of the pages."""
    for module in ("onnxruntime", "openvino", "optuna", "pandas", "ray"):
        pytest.importorskip(module)
    folder = tmp_path_factory.mktemp("docs")
    draw_people(folder / "data")
    document = {**EXPERIMENT, "data": {**EXPERIMENT["data"]}}
    for split in ("train", "test"):
        files = EXPERIMENT["data"][split]
        document["data"][split] = {key: str(folder / "data" / path) for key, path in files.items()}
    for name in ("quickstart", "mine", "my_experiment"):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(document))
    (folder / "quickstart_video.yaml").write_text(yaml.safe_dump(VIDEO_EXPERIMENT))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("quickstart", "quickstart_video"):
            assert main(["run", f"{name}.yaml", "--device", "cpu"]) == 0
    write_stand_ins(folder)
    return folder


def write_stand_ins(folder: Path) -> None:
    run = folder / "runs" / "quickstart"
    for seed in range(3):
        shutil.copytree(run, folder / "runs" / f"seed{seed}")
    shutil.copytree(run / "search", run / "search_small")
    shutil.copytree(run / "retrain", run / "retrain_small")
    shutil.copy(run / "retrain" / "network.safetensors", folder / "network.safetensors")
    shutil.copy(run / "search" / "best.json", folder / "best.json")
    clips = folder / "runs" / "quickstart_video" / "video" / "retrain"
    shutil.copy(clips / "network.safetensors", folder / "clip.safetensors")
    shutil.copy(folder / "data" / "train" / "annotations.json", folder / "all.json")
    shutil.copy(find_shipped("search_spaces", "tiny", ".yaml"), folder / "my_space.yaml")
    shutil.copytree(folder / "data" / "test" / "images", folder / "photos")
    photo = next((folder / "photos").iterdir())
    shutil.copy(photo, folder / "photo.jpg")
    shutil.copy(IMPORTS / "cvat.xml", folder / "labels.xml")
    shutil.copytree(IMPORTS / "yolo", folder / "dataset")
    frame = cv2.imread(str(photo))
    assert frame is not None
    for name in ("clip.mp4", "street.mp4"):
        codec = cv2.VideoWriter.fourcc(*"mp4v")
        video = cv2.VideoWriter(str(folder / name), codec, 25.0, frame.shape[1::-1])
        for _ in range(3):
            video.write(frame)
        video.release()


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_commands_and_snippets_of_a_page_run(
    page: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines, snippets = list(commands(page)), list(python_blocks(page))
    if not lines and not snippets:
        pytest.skip("a page without commands")
    here = tmp_path / "here"
    shutil.copytree(folder, here)
    monkeypatch.chdir(here)
    for line in lines:
        words = [IN_PLACE.get(word, word) for word in shlex.split(line)[1:]]
        more = ANY_SPREAD if MEASURING & set(words) else []
        assert main([*words, *more]) == 0, line
    image = np.zeros((96, 128, 3), np.uint8)
    names: dict[str, Any] = {"image": image, "boxes_xyxy": [[10, 10, 60, 90]]}
    for snippet in snippets:
        exec(compile(snippet, str(page), "exec"), names)
