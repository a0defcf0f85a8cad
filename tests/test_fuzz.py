"""The short form of the fuzzer: `python -m tools.fuzz` runs the long one."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tool_fixture import tool

pytestmark = pytest.mark.usefixtures("brief_plan", "onnx_operators")

runs = tool("fuzz.runs")
KINDS: dict[str, Any] = tool("fuzz.kinds").KINDS
MODULES = [
    tool(f"fuzz.{name}")
    for name in (
        "kinds",
        "kinds_commands",
        "kinds_models",
        "kinds_training",
        "kinds_video",
        "spoiling",
    )
]
CHANGES = ("changed_document", "changed_bytes", "changed_text", "changed_arguments")
EXAMPLES_A_SHARE, FEWEST_EXAMPLES = 0.5, 2


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tool("fuzz.sandbox").make_sandbox(tmp_path_factory.mktemp("valid"))


# Of a valid model, every file is written, opened and timed.
LONG_IF_VALID = {"benchmark"}


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=pytest.mark.slow) if kind in LONG_IF_VALID else kind
        for kind in KINDS
    ],
)
def test_unspoiled_inputs_end_well(
    kind: str, sandbox: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the spoiled ones would fail for another reason, and show nothing."""
    for module in MODULES:
        for name in CHANGES:
            monkeypatch.setattr(module, name, lambda unspoiled, *_: unspoiled, raising=False)
        for name in ("spoil_published", "_spoil_onnx"):
            monkeypatch.setattr(module, name, lambda *_: None, raising=False)
    make, _ = KINDS[kind]
    case, outcome = runs.run_case(make, sandbox, runs.empty(tmp_path / "case"), random.Random(0))
    assert outcome.ended_well and outcome.fault is None, (case.arguments, outcome.errors)


@pytest.mark.parametrize("kind", KINDS)
def test_spoiled_inputs_end_well_or_in_one_line(kind: str, sandbox: Any, tmp_path: Path) -> None:
    make, share = KINDS[kind]

    @settings(
        max_examples=max(FEWEST_EXAMPLES, int(EXAMPLES_A_SHARE * share)),
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.randoms(use_true_random=False))
    def run(rng: random.Random) -> None:
        case, outcome = runs.run_case(make, sandbox, runs.empty(tmp_path / "case"), rng)
        assert outcome.fault is None, (case.arguments, outcome.errors)

    run()
