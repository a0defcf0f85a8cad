"""What the benchmarks compute from what they measure, by hand."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tool_fixture import tool

turns, grouped, forms = (
    tool("benchmarks.interleaved"),
    tool("benchmarks.grouped"),
    tool("benchmarks.grouped_forms"),
)
command = tool("benchmarks.command")
sizes = tool("sizes")
against_random = tool("benchmarks.found_against_random")
killed, threads = tool("benchmarks.kill_test"), tool("benchmarks.threads")


def test_what_runs_at_once_counts_once() -> None:
    assert turns.covered([]) == 0
    assert turns.covered([(5, 6), (0, 2), (1, 3)]) == 4
    assert turns.covered([(0, 9), (1, 2), (8, 10)]) == 10


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("together", [1, 2, 4])
def test_a_wider_group_with_zeros_computes_the_same(transposed: bool, together: int) -> None:
    generator = torch.Generator().manual_seed(0)
    shape = (16, 3, 4, 4) if transposed else (24, 4, 3, 3)
    layer = forms.Grouped((16, 6, 5), shape, 4, 1, transposed)
    x, weight = (torch.randn(size, generator=generator) for size in ((2, 16, 6, 5), shape))
    plain = layer.run(x, weight, 4)
    wide = forms.widened(weight, 4, 4 // together)
    assert wide.shape[1] == shape[1] * together
    torch.testing.assert_close(layer.run(x, wide, 4 // together), plain)


def test_the_summary_by_hand() -> None:
    """Two depthwise layers, one of them twice in the archs; the second has no `two`."""
    layers = [forms.Grouped((count, 8, 8), (count, 1, 3, 3), count, 1, False) for count in (4, 3)]
    found = [
        grouped.Measured(layers[0], 2, {"own": 1.0, "turned": 2.0, "two": 0.5, "contiguous": 0.25}),
        grouped.Measured(layers[1], 1, {"own": 2.0, "turned": 1.0, "contiguous": 2.0}),
    ]
    *_, kind, everything = grouped.summary(found)
    # own 2 x 1 + 2; contiguous 0.5 + 2; turned 4 + 1; two 1 + 2; best 1 + 1
    cells = "3 | 4000.0 | 0.62 | 1.25 | 0.75 |  |  |  | 0.50 | turned 1 (0.50), two 1 (0.50) |"
    assert kind == f"| conv, 1 | {cells}"
    assert everything == f"| all | {cells}"


def test_a_report_says_its_command_and_needs_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/here/tools/benchmarks/bench.py", "--report", "a b.md"])
    line = command.command_line()
    assert line == "Command: `python -m tools.benchmarks.bench --report 'a b.md'`"
    command.write_report(tmp_path / "new" / "report.md", [line, ""])
    assert (tmp_path / "new" / "report.md").read_text() == f"{line}\n\n"
    command.write_report(None, [line])
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_a_tool_ends_with_its_code_or_with_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", ["/here/tools/bench.py"])

    def wrong() -> int:
        raise ValueError("x.yaml: found 1,\n allowed is 2")

    with pytest.raises(SystemExit) as ended:
        command.exit_with(wrong)
    assert ended.value.code == "bench: x.yaml: found 1, allowed is 2"
    with pytest.raises(SystemExit) as ended:
        command.exit_with(lambda: 3)
    assert ended.value.code == 3


def test_lines_of_code_are_those_without_docstrings_and_comments() -> None:
    lines = ('"""About."""', "", "x = (", "    1,  # one", ")", "", "", "def f():")
    source = "\n".join((*lines, '    """Two', '    lines."""', "    # why", "    return x", ""))
    assert (sizes.count_lines(source), sizes.count_code(source)) == (12, 5)
    assert sizes.function_lines(source) == {"f, line 8": 5}


def test_commands_that_benchmarks_start_find_the_package() -> None:
    assert (killed.ROOT / "vipnas" / "__main__.py").is_file()
    task = [sys.executable, "-m", "tools.benchmarks.threads"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threads.subprocess, "run", lambda command, **_: Answer(command))
        found = threads.Bench(Path("people"), None, 1, 2.0)._run("quick-smallest", "1")
    assert found == [*task, "--task", "quick-smallest", "1", "people", "2.0"]


class Answer:
    """A process that prints how it was called."""

    def __init__(self, command: list[str]) -> None:
        self.stdout = json.dumps(command)


def test_the_interval_of_a_difference_by_hand() -> None:
    assert against_random.interval(np.full(5, 0.25)) == (0.25, 0.25)
    # Of two persons half of the draws have one of each, and a quarter each have one twice.
    assert against_random.interval(np.array([-1.0, 3.0])) == (-1.0, 3.0)
    # 400 persons: a normal of deviation 1 / 20 around 0.
    low, high = against_random.interval(np.tile([-1.0, 1.0], 200))
    assert low == pytest.approx(-0.098, abs=0.005) and high == pytest.approx(0.098, abs=0.005)
