"""What all tests share: one thread each, the real data, a time limit for slow tests."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from browser_fixture import Browser

    from vipnas.space.image import SearchSpace

# Before torch, numpy or OpenCV is imported: sums then come out the same on every machine.
for variable in (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "OPENCV_FOR_THREADS_NUM",
):
    os.environ[variable] = "1"

# No test survives a loss of power, and the disk takes milliseconds for each of 10,000 files.
os.fsync = lambda fd: None

# The same examples every time, and no failure because the machine is busy.
settings.register_profile("vipnas", deadline=None, derandomize=True, database=None, max_examples=40)
settings.load_profile("vipnas")

MOST_WORKERS = 4  # each loads its own PyTorch
# Files that take longest. They come first, so that no worker ends with one of them alone.
LONG_FILES = (
    "test_chain_video.py",
    "test_fuzz.py",
    "test_searchers.py",
    "test_runtimes.py",
    "test_export_forms.py",
    "test_run_folder.py",
    "test_parallel.py",
)
SLOW_TIMEOUT_SECONDS = 1800
GPU_TIMEOUT_SECONDS = 120  # the first test loads the libraries of the GPU


@pytest.fixture(scope="session")
def vipnas_data() -> Path:
    """Directory of the real data (lspet/, coco_sample/, cocoeval/ ...)."""
    if "VIPNAS_DATA" not in os.environ:
        pytest.skip("VIPNAS_DATA is not set: it names the directory of the real photographs")
    directory = Path(os.environ["VIPNAS_DATA"]).resolve()
    assert directory.is_dir(), f"VIPNAS_DATA is not a directory: {directory}"
    return directory


@pytest.fixture(scope="session")
def models_folder(vipnas_data: Path) -> Path:
    """Directory of public models (nanodet.onnx, movenet-thunder.onnx), `models` beside the data."""
    directory = Path(os.environ.get("VIPNAS_MODELS", vipnas_data.parent / "models")).resolve()
    if not directory.is_dir():
        pytest.skip(f"no public models: {directory} is no directory (VIPNAS_MODELS names another)")
    return directory


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A Chromium for all tests of this process; starting one takes a second."""
    from browser_fixture import chromium

    with chromium() as started:
        yield started


SPACES = (
    "tiny",
    "inverted",
    pytest.param("s_vipnas_res50", marks=pytest.mark.slow),  # the largest network of all
    "s_vipnas_mbv3",
    "lat_vipnas",
)


@pytest.fixture(scope="session", params=SPACES)
def space(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SearchSpace:
    """Each family small, one with two input sizes, and each shipped space at a small input."""
    from spaces_fixture import INVERTED_YAML, space_from

    from vipnas.shipped import find_shipped
    from vipnas.space.yaml import read_space

    if request.param == "inverted":
        inverted = space_from(INVERTED_YAML, tmp_path_factory.mktemp("spaces"), "inverted")
        return inverted.with_facts(input_hw=((16, 16), (32, 32)))
    small_hw = (32, 32) if request.param == "tiny" else (64, 64)
    return read_space(find_shipped("search_spaces", request.param)).with_facts(input_hw=small_hw)


@pytest.fixture(scope="session")
def tiny_space() -> SearchSpace:
    """The shipped `tiny` at its own size."""
    from vipnas.shipped import find_shipped
    from vipnas.space.yaml import read_space

    return read_space(find_shipped("search_spaces", "tiny"))


@pytest.fixture(scope="session")
def small_space(tmp_path_factory: pytest.TempPathFactory) -> SearchSpace:
    """32 architectures."""
    from spaces_fixture import SMALL_YAML, space_from

    return space_from(SMALL_YAML, tmp_path_factory.mktemp("spaces"), "small")


@pytest.fixture(scope="session")
def brief_plan() -> Iterator[None]:
    """For files that run whole experiments: their plan times one step of each stage."""
    from vipnas.pipeline import plan
    from vipnas.pipeline.step_seconds import Effort

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "BRIEF", Effort(warm_up=0, steps=1, persons=1))
        yield


@pytest.fixture(scope="session")
def onnx_operators() -> Iterator[None]:
    """For files that export often: the exporter reads its table of 500 operators once, not for
    each network, which takes as long as a small network itself."""
    from torch.onnx._internal.exporter._registration import ONNXRegistry as registry

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "from_torchlib", staticmethod(cache(registry.from_torchlib)))
        yield


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`shipped_space`: a test for every shipped space, by whatever name."""
    if "shipped_space" in metafunc.fixturenames:
        from vipnas.shipped import shipped_files

        names = [
            name for name, path in shipped_files("search_spaces").items() if path.suffix == ".yaml"
        ]
        metafunc.parametrize("shipped_space", names, indirect=True, scope="session")


@pytest.fixture(scope="session")
def shipped_space(request: pytest.FixtureRequest) -> SearchSpace:
    """With several input sizes: its own, or its own and the smallest of that aspect ratio."""
    from vipnas.shipped import find_shipped
    from vipnas.space.yaml import read_space

    space = read_space(find_shipped("search_spaces", request.param))
    if space.has_sizes:
        return space
    height, width = space.input_hw
    steps = math.gcd(height, width) // space.max_arch().total_stride
    return space.with_facts(input_hw=((height // steps, width // steps), (height, width)))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: item.path.name not in LONG_FILES)
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_TIMEOUT_SECONDS))
        elif item.get_closest_marker("gpu") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(GPU_TIMEOUT_SECONDS))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """For `-n auto`: a worker for each core that this process may keep busy."""
    from vipnas.threads import usable_cores

    return min(MOST_WORKERS, usable_cores())


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")
    if item.get_closest_marker("browser"):
        from browser_fixture import NAMES, find_chromium

        if find_chromium() is None:
            pytest.skip(f"no Chromium: none of {', '.join(NAMES)} is on the path")
