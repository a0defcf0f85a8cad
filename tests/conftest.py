"""What all tests share: one thread each, the real data, a time limit for slow tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Before torch, numpy or OpenCV is imported: sums then come out the same on every machine.
for variable in (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "OPENCV_FOR_THREADS_NUM",
):
    os.environ[variable] = "1"

SLOW_TIMEOUT_SECONDS = 1800


@pytest.fixture(scope="session")
def vipnas_data() -> Path:
    """Directory of the real data (lspet/, coco_sample/, cocoeval/ ...)."""
    if "VIPNAS_DATA" not in os.environ:
        pytest.skip("VIPNAS_DATA is not set: it names the directory of the real photographs")
    directory = Path(os.environ["VIPNAS_DATA"]).resolve()
    assert directory.is_dir(), f"VIPNAS_DATA is not a directory: {directory}"
    return directory


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_TIMEOUT_SECONDS))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")
