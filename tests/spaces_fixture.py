"""Search spaces for tests: written as YAML, so that they take the way that users' files take."""

from __future__ import annotations

from pathlib import Path

from vipnas.space.image import SearchSpace
from vipnas.space.yaml import read_space

# Inverted residuals, which the shipped `tiny` has not: 1,536 architectures.
INVERTED_YAML = """
family: inverted_residual
input_hw: [32, 32]
num_keypoints: 17
stem: {width: [8], kernel_size: [3], activation: [hardswish], max_pool: [false]}
stages:
  - {width: [8], depth: [1], kernel_size: [3, 5], channels_per_group: [1, 2], attention: [false, true], expand_ratio: [1], stride: [1], activation: [relu]}
  - {width: [8, 16], depth: [1, 2], kernel_size: [3, 5, 7], groups: [1], channels_per_group: [1], attention: [false, true], expand_ratio: [2, 3], stride: [2], activation: [hardswish]}
head:
  - {width: [16], kernel_size: [2, 4], groups: [2]}
"""  # noqa: E501

# So small that all its members can be listed: 2 x 2 x 2 x 2 x 2 = 32.
SMALL_YAML = """
family: residual
input_hw: [16, 16]
num_keypoints: 17
stem: {width: [4], kernel_size: [3], activation: [relu], max_pool: [false]}
stages:
  - {width: [4, 8], depth: [1, 2], kernel_size: [3, 5], groups: [1], channels_per_group: [1], attention: [false, true], expand_ratio: [1], stride: [2], activation: [relu]}
head:
  - {width: [4], kernel_size: [4], groups: [1]}
"""  # noqa: E501


def space_from(text: str, directory: Path, name: str) -> SearchSpace:
    path = directory / f"{name}.yaml"
    path.write_text(text)
    return read_space(path)
