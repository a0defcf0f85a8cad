"""Guards the plan of the house: who imports whom, what is free of torch, what is never written."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from vipnas.arch.io import arch_from_json, read_arch
from vipnas.config.experiment import read_experiment
from vipnas.shipped import find_shipped, shipped_files
from vipnas.space.yaml import read_space

PACKAGE = Path(__file__).resolve().parent.parent / "vipnas"
SOURCES = sorted(PACKAGE.rglob("*.py"))

# The rooms of vipnas, each with all that it may import, besides those below all.
# A new room gets its line here, under all that it imports.
BELOW_ALL = {"errors", "files"}
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "validation": set(),
    "files": {"validation"},
    "memory": set(),
    "threads": set(),
    "shipped": set(),
    "tables": set(),
    "arch": set(),
    "quantities": {"tables"},
    "settings": set(),
    "config": {"arch", "quantities"},
    "space": {"arch"},
    "search": {"arch", "config", "quantities", "settings", "space", "tables", "threads"},
    "models": {"arch", "quantities", "space"},
    "data": {"arch", "config", "models"},
}
LAYERS = (
    ("viz", "synthetic"),
    ("evaluation",),
    ("training",),
    ("runtimes",),
    ("latency",),
    ("deploy", "report"),
    ("pipeline",),
    ("cli",),
    ("__main__",),
)
for layer in LAYERS:
    below = set(MAY_IMPORT)
    MAY_IMPORT |= {part: below for part in layer}
# The public API, imported when first asked for.
MAY_IMPORT["__init__"] = set(MAY_IMPORT)

FREE_OF_TORCH = {"files", "shipped", "tables", "threads", "arch", "quantities", "config", "space"}
FREE_OF_TORCH |= {"search", "settings", "errors", "validation"}
ONLY_WHERE_USED = {"av", "ray", "pycocotools", "motmetrics", "pandas"}
# Anything of these modules but their error classes; and these functions.
EXECUTES_DATA = {"pickle", "dill", "cloudpickle", "shelve", "marshal"}
FORBIDDEN_CALLS = {"eval", "exec", "yaml.load", "yaml.unsafe_load", "yaml.full_load"}
GLOBAL_RANDOMNESS = {"random", "np.random", "numpy.random"}
RANDOMNESS_THAT_IS_PASSED_ON = {"Random", "default_rng", "Generator", "SeedSequence", "PCG64"}
RANDOMNESS_THAT_IS_PASSED_ON |= {"getstate", "setstate", "get_state", "set_state"}  # draw nothing


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported_modules(tree: ast.AST) -> Iterator[str]:
    """Yield full names: `from vipnas import arch` gives vipnas.arch."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            yield module
            if module == "vipnas":
                yield from (f"vipnas.{alias.name}" for alias in node.names)


def imported_at_top(tree: ast.Module) -> Iterator[str]:
    """Only what runs when the module is imported: not in functions, nor if TYPE_CHECKING."""
    for node in tree.body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from imported_modules(node)


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def forbidden_imports(path: Path, tree: ast.Module) -> set[str]:
    here = part_of(path)
    imported = {
        module.split(".")[1] for module in imported_modules(tree) if module.startswith("vipnas.")
    }
    return imported - {here} - BELOW_ALL - MAY_IMPORT[here]


def broken_rules(find: Callable[[Path, ast.Module], Iterable[object]]) -> dict[str, list[object]]:
    """What `find` complains of, by file."""
    found = {path: list(find(path, parse(path))) for path in SOURCES}
    return {path.relative_to(PACKAGE).as_posix(): bad for path, bad in found.items() if bad}


def test_the_plan_has_no_circle_and_names_every_part() -> None:
    order = TopologicalSorter(MAY_IMPORT).static_order()
    assert set(order) == MAY_IMPORT.keys()
    new_parts = {part_of(path) for path in SOURCES} - MAY_IMPORT.keys()
    assert not new_parts, "give each a line in MAY_IMPORT"


def test_imports_flow_downward() -> None:
    assert broken_rules(forbidden_imports) == {}


def test_imports_are_written_from_vipnas_on() -> None:
    def relative(_: Path, tree: ast.Module) -> Iterator[str]:
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.level:
                yield ast.unparse(node)

    assert broken_rules(relative) == {}


def test_what_the_plan_forbids_is_found() -> None:
    upward = ast.parse(
        "def late():\n    from vipnas import deploy, arch\nimport vipnas.training.loop"
    )
    assert forbidden_imports(PACKAGE / "search" / "new.py", upward) == {"deploy", "training"}
    assert forbidden_imports(PACKAGE / "files.py", upward) == {"arch", "deploy", "training"}
    assert forbidden_imports(PACKAGE / "pipeline" / "new.py", upward) == set()
    stage = PACKAGE / "evaluation" / "new.py"
    assert forbidden_imports(stage, ast.parse("import vipnas.pipeline.chain")) == {"pipeline"}


def complaints(tree: ast.Module) -> list[str]:
    """Calls that execute what they read, or that draw from the randomness of the whole process."""
    bad = []
    for call in calls(tree):
        module, _, function = ast.unparse(call.func).rpartition(".")
        words = {word.arg: ast.unparse(word.value) for word in call.keywords}
        if (
            module in EXECUTES_DATA
            or f"{module}.{function}".lstrip(".") in FORBIDDEN_CALLS
            or ((module, function) == ("torch", "load") and words.get("weights_only") != "True")
            or (module in GLOBAL_RANDOMNESS and function not in RANDOMNESS_THAT_IS_PASSED_ON)
        ):
            bad.append(f"line {call.lineno}: {ast.unparse(call)}")
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in EXECUTES_DATA | GLOBAL_RANDOMNESS:
            bad.append(f"line {node.lineno}: {ast.unparse(node)}")
    return bad


def test_nothing_executes_data_or_draws_globally() -> None:
    assert broken_rules(lambda _, tree: complaints(tree)) == {}


@pytest.mark.parametrize(
    ("line", "is_bad"),
    [
        ("eval(text)", True),
        ("network.eval()", False),
        ("yaml.load(text, Loader=yaml.SafeLoader)", True),
        ("yaml.safe_load(text)", False),
        ("pickle.loads(data)", True),
        ("from pickle import loads", True),
        ("torch.load(path)", True),
        ("torch.load(path, weights_only=False)", True),
        ("torch.load(path, weights_only=True)", False),
        ("random.choice(options)", True),
        ("from random import choice", True),
        ("random.Random(7).choice(options)", False),
        ("np.random.seed(7)", True),
        ("np.random.default_rng(7).permutation(3)", False),
    ],
)
def test_what_executes_data_or_draws_globally_is_found(line: str, is_bad: bool) -> None:
    assert bool(complaints(ast.parse(line))) == is_bad


def test_ray_and_pycocotools_are_imported_only_where_they_are_used() -> None:
    def too_early(_: Path, tree: ast.Module) -> set[str]:
        return {module.split(".")[0] for module in imported_at_top(tree)} & ONLY_WHERE_USED

    assert broken_rules(too_early) == {}


def test_the_torch_free_parts_do_not_load_torch() -> None:
    """By running them: catches torch behind another module too."""
    modules = [dotted(path) for path in SOURCES if part_of(path) in FREE_OF_TORCH | {"__init__"}]
    assert "vipnas.space.image" in modules
    command = (
        f"import importlib, sys\nfor name in {modules!r}: importlib.import_module(name)\n"
        "print(sorted({'torch', 'cv2', 'ray'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", command], capture_output=True, text=True, cwd=PACKAGE.parent
    )
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def dotted(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def test_the_torch_free_parts_never_import_torch() -> None:
    """By reading them: catches an import inside a function, which no start-up would show."""

    def of_torch(path: Path, tree: ast.Module) -> list[str]:
        if part_of(path) not in FREE_OF_TORCH:
            return []
        return [name for name in imported_modules(tree) if name.split(".")[0] == "torch"]

    assert broken_rules(of_torch) == {}


@pytest.mark.parametrize("name", shipped_files("search_spaces"))
def test_every_shipped_space_and_arch_is_read(name: str) -> None:
    path = find_shipped("search_spaces", name)
    if path.suffix == ".json":
        arch = read_arch(path)
        assert arch_from_json(arch.to_json(), name) == arch
    else:
        space = read_space(path)
        assert space.max_arch() in space


@pytest.mark.parametrize("name", shipped_files("experiments"))
def test_every_shipped_experiment_is_read_and_names_a_shipped_space(name: str) -> None:
    experiment = read_experiment(find_shipped("experiments", name))
    assert find_shipped("search_spaces", experiment.space).is_file()
