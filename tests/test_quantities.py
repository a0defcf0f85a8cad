"""A quantity is a row: what a made-up one takes, and that nothing else spells the rows."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
from search_fixture import Separable

import vipnas
from vipnas.arch.clip import FollowUp, VideoArch
from vipnas.arch.image import Arch
from vipnas.config.search import SearchConfig
from vipnas.files import parse, to_plain
from vipnas.models.counting import count_cost, mean_cost
from vipnas.pipeline.search import run_methods, searchers_of, write_fronts
from vipnas.quantities import (
    QUANTITIES,
    Cost,
    Quantity,
    header_cells,
    known_quantities,
    value_cells,
)
from vipnas.search.journal import Journal
from vipnas.search.workers import InProcess
from vipnas.space.image import SearchSpace

ENERGY = Quantity("energy_mj", "mJ", 1.0, ",.1f", ",.3f", "energy of an image, mJ")


@pytest.fixture
def energy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(QUANTITIES, ENERGY.name, ENERGY)


def with_energy(arch: Arch) -> Cost:
    """The getter, which `pipeline` hands in."""
    cost = count_cost(arch)
    return cost.with_values(energy_mj=cost.macs / 1e6 + cost.params / 1e4)


def test_a_new_quantity_is_a_row_and_a_getter(
    energy: None, tiny_space: SearchSpace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is a constraint and an objective, and gets into the journal, the front and the figure."""
    section = {
        "num_trials": 6,
        "searcher": "nsga2",
        "nsga2": {"population_size": 4},
        "objectives": ["score", "energy_mj"],
        "constraints": [{"quantity": "energy_mj", "at_most": 6.0}],
    }
    config = parse(SearchConfig, section, "experiment.yaml: search")
    searchers = searchers_of(config, tiny_space, 0, with_energy)
    journal = Journal(tmp_path / "trials.jsonl", {})
    workers = InProcess(lambda: Separable(tiny_space))
    keep_nothing: Any = lambda *_: None  # noqa: E731
    trials = run_methods(config, searchers, workers, with_energy, journal, keep_nothing)
    write_fronts(tmp_path, config, trials)
    found = [trial.cost.value("energy_mj") for trial in trials["nsga2"]]
    assert len(found) == 6 and max(found) <= 6.0
    assert Journal(tmp_path / "trials.jsonl", {}).trials == journal.trials
    assert f"{found[0]:.1f} mJ" in capsys.readouterr().out
    assert (tmp_path / "pareto.png").is_file()
    with pytest.raises(ValueError, match=r"energy_mj: at_most: expected .*, got 0\.010"):
        tight = {**section, "constraints": [{"quantity": "energy_mj", "at_most": 0.01}]}
        searchers_of(parse(SearchConfig, tight, "x"), tiny_space, 0, with_energy)


def test_a_new_quantity_of_a_clip_is_a_mean(energy: None, tiny_space: SearchSpace) -> None:
    small, large = tiny_space.min_arch(), tiny_space.max_arch()
    clip = VideoArch(large, (FollowUp(small, None), FollowUp(small, None)))
    expected = (
        with_energy(large).value("energy_mj") + 2 * with_energy(small).value("energy_mj")
    ) / 3
    assert mean_cost(clip, with_energy).value("energy_mj") == pytest.approx(expected)
    assert mean_cost(clip).get("energy_mj") is None


def test_other_quantities_stand_beside_the_own_ones_in_json(energy: None) -> None:
    cost = Cost(1, 2, 3.0).with_values(energy_mj=4.5, latency_ms=5.0)
    assert to_plain(cost) == {"macs": 1, "params": 2, "latency_ms": 5.0, "energy_mj": 4.5}
    assert parse(Cost, to_plain(cost), "x") == cost
    assert to_plain(Cost(1, 2)) == {"macs": 1, "params": 2, "latency_ms": None}
    assert to_plain(Cost(1, 2), defaults=False) == {"macs": 1, "params": 2}
    with pytest.raises(ValueError, match="got 'energy_j'"):
        parse(Cost, {"macs": 1, "params": 2, "energy_j": 4.5}, "x")


def test_a_table_shows_what_all_rows_know(energy: None) -> None:
    rows = [to_plain(Cost(12_345_678, 70_000, 1.25)), to_plain(Cost(1_000_000, 7_000))]
    assert [quantity.name for quantity in known_quantities(rows)] == ["macs", "params"]
    assert header_cells(known_quantities(rows), 8) == "   MMACs M parameters"
    assert value_cells(known_quantities(rows[:1]), rows[0], 6) == " 12.35  0.070   1.25"


def test_a_cost_that_is_unknown_says_what_would_give_it() -> None:
    with pytest.raises(ValueError, match=r"latency_ms: .* got none \(give search.latency\)"):
        Cost(1, 2).value("latency_ms")


def test_no_other_file_spells_a_quantity() -> None:
    """As a string: attributes of `Cost` are for those that count and measure."""
    root = Path(vipnas.__file__).parent
    spelled = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in {"macs", "latency_ms", "MMACs"}
    }
    assert spelled == {"quantities.py"}
