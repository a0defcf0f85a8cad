"""Predictions on image files are those of the evaluator, in pixels of the image."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from model_fixture import header_of_arch

from vipnas.deploy.model import PoseModel
from vipnas.deploy.predictor import predict_images
from vipnas.models.posenet import PoseNet
from vipnas.space.image import SearchSpace


def model_of(network: PoseNet) -> PoseModel:
    return PoseModel(network, header_of_arch(network.arch), Path("network.safetensors"))


class Marked(PoseNet):
    """Finds every joint at the brightest pixel of the crop."""

    def forward(self, images_B3HW: torch.Tensor, arch: object = None) -> torch.Tensor:
        height, width = self.arch.heatmap_hw
        grey = images_B3HW.mean(dim=1, keepdim=True)
        return torch.nn.functional.adaptive_avg_pool2d(grey, (height, width)).repeat(1, 17, 1, 1)


def test_a_bright_spot_is_found_where_it_is(tmp_path: Path, tiny_space: SearchSpace) -> None:
    image = np.zeros((240, 180, 3), np.uint8)
    image[96:112, 40:56] = 255
    cv2.imwrite(str(tmp_path / "spot.png"), image)
    network = Marked(tiny_space.min_arch()).eval()
    path = predict_images(model_of(network), [tmp_path / "spot.png"], tmp_path / "out")
    (found,) = json.loads(path.read_text())
    assert np.array(found["keypoints"])[:, :2] == pytest.approx(
        np.tile((47.5, 103.5), (17, 1)), abs=15
    )
    assert (tmp_path / "out" / "spot.png").exists()


def predict(images: list[Path], output: Path, space: SearchSpace) -> list[str]:
    """The images that were found, in the order of the file."""
    path = predict_images(model_of(PoseNet(space.min_arch())), images, output)
    return [entry["image"] for entry in json.loads(path.read_text())]


def black(root: Path, *names: str) -> list[Path]:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / name), np.zeros((20, 20, 3), np.uint8))
    return [root / name for name in names]


def below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("names", "pictures"),
    [
        (["a/x.jpg", "b/y.png"], ["x.png", "y.png"]),
        (["a/x.jpg", "b/x.png"], ["a/x.png", "b/x.png"]),
        (["a/x.jpg", "a/x.png"], ["x.jpg.png", "x.png.png"]),
        (["a/x.jpg", "a/x.png", "b/c/x.jpg"], ["a/x.jpg.png", "a/x.png.png", "b/c/x.png"]),
        (["x.jpg", "x.jpg", "b/y.jpg"], ["x.png", "y.png"]),
    ],
)
def test_equal_names_have_pictures_of_their_own(
    names: list[str], pictures: list[str], tmp_path: Path, tiny_space: SearchSpace
) -> None:
    images = black(tmp_path, *names)
    assert predict(images, tmp_path / "out", tiny_space) == [str(path) for path in images]
    assert below(tmp_path / "out") == {*pictures, "keypoints.json"}


def test_no_picture_takes_the_place_of_an_image(tmp_path: Path, tiny_space: SearchSpace) -> None:
    (image,) = black(tmp_path, "a/x.png")
    before = image.read_bytes()
    with pytest.raises(ValueError, match="would be .*a/x.png, which .*a/x.* has taken"):
        predict([image], tmp_path / "a", tiny_space)
    assert image.read_bytes() == before


def test_folders_are_taken_with_their_images_alone(
    tmp_path: Path, tiny_space: SearchSpace, caplog: pytest.LogCaptureFixture
) -> None:
    found = black(tmp_path, "in/a.jpg", "in/b/a.jpg", "in/c.png")
    for name in ("in/.DS_Store", "in/notes.txt", "in/b/empty.jpg"):
        (tmp_path / name).write_text("" if name.endswith("jpg") else "text")
    output = tmp_path / "in" / "out"  # what is written there is no input of the next time
    for _ in range(2):
        assert predict([tmp_path / "in"], output, tiny_space) == [str(path) for path in found]
        assert below(output) == {"a.png", "b/a.png", "c.png", "keypoints.json"}
        assert f"3 files that are no images left out, such as {tmp_path / 'in'}" in caplog.text


def test_a_folder_without_images_is_named(tmp_path: Path, tiny_space: SearchSpace) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(ValueError, match="in: expected images in this folder, found none"):
        predict([tmp_path / "in"], tmp_path / "out", tiny_space)
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_no_image_is_named_before_anything_is_written(
    tmp_path: Path, tiny_space: SearchSpace
) -> None:
    cv2.imwrite(str(tmp_path / "yes.png"), np.zeros((20, 20, 3), np.uint8))
    (tmp_path / "no.jpg").write_text("text")
    model = model_of(PoseNet(tiny_space.min_arch()))
    with pytest.raises(ValueError, match=r"no\.jpg"):
        predict_images(model, [tmp_path / "yes.png", tmp_path / "no.jpg"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
