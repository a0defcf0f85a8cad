"""Predictions on image files are those of the evaluator, in pixels of the image."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from vipnas.data.codecs.heatmap import HeatmapCodec
from vipnas.data.formats.skeletons import COCO_17
from vipnas.deploy.predictor import predict_images
from vipnas.models.posenet import PoseNet
from vipnas.space.image import SearchSpace


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
    codec = HeatmapCodec(network.arch.input_hw, network.arch.heatmap_hw)
    path = predict_images(network, codec, COCO_17, [tmp_path / "spot.png"], tmp_path / "out")
    (found,) = json.loads(path.read_text())
    assert np.array(found["keypoints"])[:, :2] == pytest.approx(
        np.tile((47.5, 103.5), (17, 1)), abs=15
    )
    assert (tmp_path / "out" / "spot.png").exists()


@pytest.mark.parametrize(("names", "folder"), [(["a/x.jpg", "b/x.png"], "out"), (["a/x.png"], "a")])
def test_no_picture_takes_the_place_of_another_or_of_an_image(
    names: list[str], folder: str, tmp_path: Path, tiny_space: SearchSpace
) -> None:
    images = [tmp_path / name for name in names]
    for path in images:
        path.parent.mkdir()
        cv2.imwrite(str(path), np.zeros((20, 20, 3), np.uint8))
    before = {path: path.read_bytes() for path in images}
    network = PoseNet(tiny_space.min_arch())
    codec = HeatmapCodec(network.arch.input_hw, network.arch.heatmap_hw)
    with pytest.raises(ValueError, match=f"would be .*{folder}/x.png, which .*a/x.* has taken"):
        predict_images(network, codec, COCO_17, images, tmp_path / folder)
    assert before == {path: path.read_bytes() for path in images}
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_no_image_is_named(tmp_path: Path, tiny_space: SearchSpace) -> None:
    (tmp_path / "no.jpg").write_text("text")
    network = PoseNet(tiny_space.min_arch())
    codec = HeatmapCodec(network.arch.input_hw, network.arch.heatmap_hw)
    with pytest.raises(ValueError, match=r"no\.jpg"):
        predict_images(network, codec, COCO_17, [tmp_path / "no.jpg"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
