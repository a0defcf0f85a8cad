"""The examples in docstrings run, and give what they say."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from model_fixture import header_of_arch

from vipnas.deploy.model import PoseModel
from vipnas.models.posenet import PoseNet
from vipnas.space.image import SearchSpace

PACKAGE = Path(__file__).resolve().parent.parent / "vipnas"
WITH_EXAMPLES = sorted(path for path in PACKAGE.rglob("*.py") if ">>> " in path.read_text())


@pytest.fixture(scope="module")
def known(tiny_space: SearchSpace, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What the examples take for granted: a model, an image of 64 x 64 and a video of two."""
    torch.manual_seed(0)
    network = PoseNet(tiny_space.min_arch()).eval()
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    video = tmp_path_factory.mktemp("videos") / "video.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (64, 64))
    for _ in range(2):
        writer.write(image)
    writer.release()
    model = PoseModel(network, header_of_arch(network.arch), Path("model.safetensors"))
    return {"model": model, "image": image, "video": video}


def test_predict_and_track_have_examples() -> None:
    names = {path.relative_to(PACKAGE).as_posix() for path in WITH_EXAMPLES}
    assert {"deploy/model.py", "deploy/result.py"} <= names


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=lambda path: path.stem)
def test_examples_give_what_they_say(path: Path, known: dict[str, object]) -> None:
    name = ".".join(("vipnas", *path.relative_to(PACKAGE).with_suffix("").parts))
    module = importlib.import_module(name)
    found = doctest.testmod(module, extraglobs=known, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert found.attempted > 0 and found.failed == 0
