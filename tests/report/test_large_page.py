"""A page of 1,000 trials x 3 seeds, replayed from the table of all scores: small and quick."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from browser_fixture import Browser
from report_fixture import settings_of

from vipnas.cli.main import main
from vipnas.config.search import SearchConfig
from vipnas.files import to_plain
from vipnas.quantities import Constraint, Cost
from vipnas.search.constraints import FeasibleSpace
from vipnas.search.searchers import RandomSearcher, Searcher
from vipnas.search.table import make_searcher
from vipnas.search.trial import Trial
from vipnas.space.image import SearchSpace
from vipnas.space.yaml import read_space

TABLES = Path(__file__).resolve().parents[2] / "experiments" / "tables"
NUM_TRIALS, MAX_BYTES, MAX_OPENING_SECONDS = 1000, 5 << 20, 2.0


class Table:
    """The scores and costs of all architectures of a space."""

    def __init__(self) -> None:
        self.space: SearchSpace = read_space(TABLES / "enumerable_space.yaml")
        _, *lines = (TABLES / "enumerable_space.jsonl").read_text().splitlines()
        self.rows = {tuple(row["genes"]): row for row in map(json.loads, lines)}

    def cost_of(self, arch: object) -> Cost:
        row = self.rows[self.space.encode(arch)]  # type: ignore[arg-type]
        return Cost(row["macs"], row["params"])

    def replay(self, searcher: Searcher, method: str) -> list[Trial]:  # type: ignore[type-arg]
        trials = []
        for number in range(NUM_TRIALS):
            arch = searcher.ask()
            assert arch is not None
            score = self.rows[self.space.encode(arch)]["ap"]
            searcher.tell(arch, score)
            trials.append(Trial(number, method, arch, score, self.cost_of(arch), 0.3))
        return trials


def write_replayed(folder: Path, table: Table, seed: int) -> None:
    budget = Constraint("macs", 40_000_000)
    config = SearchConfig(num_trials=NUM_TRIALS, constraints=(budget,), searcher="evolution")
    feasible = FeasibleSpace(table.space, table.cost_of, config.constraints)
    trials = table.replay(make_searcher(config, feasible, seed), "evolution")
    trials += table.replay(RandomSearcher(feasible, seed), "random")
    header = {"version": 1, "settings": settings_of(table.space, seed)}
    (folder / "search").mkdir(parents=True)
    lines = [header, *map(to_plain, trials)]
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    (folder / "search" / "trials.jsonl").write_text(text)


@pytest.mark.slow
@pytest.mark.browser
def test_a_page_of_three_thousand_trials_is_small_and_opens_quickly(
    browser: Browser, tmp_path: Path
) -> None:
    table = Table()
    runs = [tmp_path / f"seed{seed}" for seed in range(3)]
    for seed, run in enumerate(runs):
        write_replayed(run, table, seed)
    output = tmp_path / "seeds.html"
    assert main(["report", *map(str, runs), "-o", str(output)]) == 0
    assert output.stat().st_size < MAX_BYTES
    page = browser.open("about:blank")
    # In seconds of the processor: those of a clock depend on what else runs.
    page.send("Performance.enable", timeDomain="threadTicks")
    page.send("Page.navigate", url=output.as_uri())
    page.wait_for("document.readyState === 'complete'")
    page.wait_for("document.documentElement.dataset.ready !== undefined")
    metrics = page.send("Performance.getMetrics")["metrics"]
    seconds = {one["name"]: one["value"] for one in metrics}
    assert 0 < seconds["TaskDuration"] < MAX_OPENING_SECONDS
    page.value("document.getElementById('images-front').scrollIntoView({behavior: 'instant'})")
    page.wait_for("Charts.shown.length > 1")
    assert page.problems == []
