"""The tool that compares accuracy at equal time: networks scaled, work shared, figures by hand."""

from __future__ import annotations

import fcntl
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from experiment_fixture import EXPERIMENT, draw_people, write_experiment
from tool_fixture import tool

from vipnas.arch.image import Arch
from vipnas.arch.io import read_arch, write_arch
from vipnas.latency.interleaved import Latency
from vipnas.latency.profile import anchor_of
from vipnas.quantities import Cost
from vipnas.shipped import find_shipped
from vipnas.space.yaml import read_space

PUBLISHED = {"s_vipnas_res50": 16, "s_vipnas_mbv3": 8}


@pytest.fixture(scope="module")
def scaling() -> Any:
    return tool("benchmarks.scaled_networks")


def published(name: str) -> Arch:
    return read_arch(find_shipped("search_spaces", f"published/{name}"))


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_factor_of_one_changes_nothing(scaling: Any, name: str) -> None:
    arch = published(name)
    assert scaling.scaled(arch, 1.0, PUBLISHED[name]) == arch


def test_widths_scale_and_groups_keep_their_channels(scaling: Any) -> None:
    half = scaling.scaled(published("s_vipnas_mbv3"), 0.5, 8)
    # 16, 24, 40, 80, 112, 160 halved; 12 and 20 lie between two multiples: the even one.
    assert [stage.width for stage in half.stages] == [8, 16, 16, 40, 56, 80]
    per_group = [stage.middle_width / stage.groups for stage in half.stages]
    assert per_group == [2, 1, 8, 4, 2, 4]  # as they were
    assert [(deconv.width, deconv.groups) for deconv in half.head] == [(80, 80)] * 3


def test_dense_layers_stay_dense_at_every_width(scaling: Any) -> None:
    reference = anchor_of(read_space(find_shipped("search_spaces", "lat_vipnas")))
    archs = [scaling.scaled(reference, factor, 16) for factor in scaling.FACTORS]
    dense = [[stage.groups == 1 for stage in arch.stages] for arch in (reference, *archs)]
    assert all(found == dense[0] for found in dense)
    assert {arch.stages[0].width % 16 for arch in archs} == {0}


def test_the_space_of_an_arch_holds_it_alone(scaling: Any) -> None:
    arch = published("s_vipnas_res50")
    space = scaling.space_of(arch)
    assert space.size == 1
    assert space.max_arch() == arch


def test_scaled_to_is_the_quickest_that_takes_the_time(scaling: Any) -> None:
    reference = published("s_vipnas_res50")

    def stem_width(arch: Arch) -> float:
        return arch.stem.width

    assert scaling.scaled_to(20, reference, 16, stem_width).stem.width == 32
    assert scaling.scaled_to(33, reference, 16, stem_width).stem.width == 48
    assert scaling.scaled_to(1e9, reference, 16, stem_width).stem.width == 160  # the largest


def test_pieces_are_made_once_in_the_order_of_their_needs(tmp_path: Path) -> None:
    pieces_of_work = tool("benchmarks.pieces")
    made: list[str] = []

    def piece(name: str, *needs: str) -> Any:
        target = tmp_path / name / "done"

        def make() -> None:
            made.append(name)
            target.write_text("")

        return pieces_of_work.Piece(target, tuple(tmp_path / need / "done" for need in needs), make)

    pieces = [piece("c", "b"), piece("b", "a"), piece("a"), piece("d", "nobody makes it")]
    assert pieces_of_work.make_all(pieces) == [tmp_path / "d" / "done"]
    assert made == ["a", "b", "c"]
    assert pieces_of_work.make_all(pieces) == [tmp_path / "d" / "done"]
    assert made == ["a", "b", "c"]


def test_what_another_process_is_at_is_left_to_it(tmp_path: Path) -> None:
    pieces_of_work = tool("benchmarks.pieces")
    with (tmp_path / ".claimed").open("w") as other:
        fcntl.flock(
            other, fcntl.LOCK_EX
        )  # a lock of another progressive_shrinking, as of another process
        piece = pieces_of_work.Piece(tmp_path / "done", (), lambda: pytest.fail("was another's"))
        assert pieces_of_work.make_all([piece]) == [tmp_path / "done"]
    piece = piece._replace(make=lambda: (tmp_path / "done").write_text(""))
    assert pieces_of_work.make_all([piece]) == []


def test_comparisons_are_paired_and_of_the_mean_over_seeds(tmp_path: Path) -> None:
    report = tool("benchmarks.accuracy_report")
    noise = np.linspace(-0.1, 0.1, 101)  # the same test images for both

    def row(name: str, ms: float, *aps: float) -> Any:
        trainings = [report.Measured(ap, 2 * ap, ap + noise) for ap in aps]
        latencies = {"onnxruntime": Latency(ms, 0.01, 12), "openvino": Latency(2 * ms, 0.02, 12)}
        return report.Row(name, Cost(1_000_000, 2_000_000), latencies, tuple(trainings))

    rows = [row("a-space-0.25", 1.0, 0.30, 0.34), row("c-net", 4.0, 0.31, 0.31)]
    report.write_report(tmp_path, rows, [1.0])
    text = (tmp_path / "accuracy.md").read_text()
    assert "| a-space-0.25 | c-net | 0.25 | 0.25 | +1.0 [+1.0, +1.0] |" in text
    first = "| a-space-0.25 | 1.0 | 2.00 | 1.00 (spread 1%) | 2.00 (spread 2%) | 32.0 "
    assert first in text
    document = json.loads((tmp_path / "accuracy.json").read_text())
    assert document[0]["ap"] == [0.30, 0.34]
    assert document[1]["ap_interval"] == pytest.approx([0.31 - 0.095, 0.31 + 0.095])
    assert (tmp_path / "accuracy.png").stat().st_size > 0


@pytest.mark.slow
def test_a_study_from_supernets_to_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compare = tool("benchmarks.compare_accuracy")
    tiny = read_space(find_shipped("search_spaces", "tiny"))
    write_arch(tmp_path / "known.json", tiny.max_arch())
    study = {
        "experiment": str(write_experiment(tmp_path, EXPERIMENT)),
        "supernet_epochs": {"tiny": 0.5, "small": 0.5},
        "published": [str(tmp_path / "known.json")],
        "scaled": {"tiny": 8},
        "budgets": [1.2],
        "seeds": {"": [0], "a": [0, 1]},
        "least_use": 0.0,
        "profile": [10, 0],
        "max_spread": 100.0,  # whatever else the machine does
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    data_root = draw_people(tmp_path / "people")
    output = tmp_path / "out"
    arguments = [str(tmp_path / "study.yaml"), "--output", str(output), "--device", "cpu"]

    def run(*more: str) -> int:
        command = ["compare", *arguments, "--data-root", str(data_root), *more]
        monkeypatch.setattr(sys, "argv", command)
        return int(compare.main())

    assert run("--make", "timed") == 0  # as on a machine whose milliseconds count
    assert (output / "latency" / "table.json").exists()
    assert not list(output.glob("**/*.safetensors"))
    assert run("--make", "trained") == 0  # as on another one
    assert not (output / "accuracy.json").exists()
    weights = {path: path.read_bytes() for path in output.glob("networks/*/*/network.safetensors")}
    assert len(weights) == 5
    for path in weights:
        path.unlink()  # they stay where they were trained: a report needs results alone
    assert run("--report") == 0
    rows = json.loads((output / "accuracy.json").read_text())
    names = ["a-tiny-1.2", "d-tiny-1.2", "c-known", "b-small-1.2"]
    assert [row["name"] for row in rows] == names
    assert [len(row["ap"]) for row in rows] == [2, 1, 1, 1]
    found = read_arch(output / "networks" / "a-tiny-1.2" / "arch.json")
    assert found in tiny
    assert rows[3]["macs"] <= rows[0]["macs"]
    seeds = [
        weights[output / "networks" / names[0] / f"seed{n}" / "network.safetensors"] for n in (0, 1)
    ]
    assert seeds[0] != seeds[1]

    write_experiment(tmp_path, {**EXPERIMENT, "sigma_px": 1.0})
    assert run("--report") == 1  # its results are of another recipe
