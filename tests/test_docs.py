"""The documentation: commands are understood, snippets are valid, links lead somewhere."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from docs_fixture import NOT_RUN, PAGES, ROOT, blocks, command_lines, commands
from experiment_fixture import EXPERIMENT

from tools import reference
from tools.reference import commands_page, experiment_page
from vipnas.cli.main import parser_of_all_commands
from vipnas.config.experiment import ExperimentConfig
from vipnas.errors import UserError
from vipnas.files import parse, read_yaml

# What stands for something of the reader's in a command.
STANDS_FOR = {"N": "1", "true|false": "true"}
DOCS = ROOT / "docs"
SCHEDULE = EXPERIMENT["retrain"]["schedule"]
# What a part of an experiment is a part of.
WHOLE: dict[str, Any] = {
    **EXPERIMENT,
    "video": {
        "num_follow_ups": 2,
        "fusion": {"stages": [1]},
        "supernet": {"schedule": SCHEDULE},
        "search": {"num_trials": 2},
        "retrain": {"schedule": SCHEDULE},
    },
}


@pytest.fixture(params=PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def page(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_every_command_is_understood(page: Path) -> None:
    for command in commands(page):
        words = [STANDS_FOR.get(word, word) for word in shlex.split(command)[1:]]
        if "--help" in words or "--version" in words or "..." in words:
            continue
        try:
            parser_of_all_commands().parse_args(words)
        except SystemExit:
            pytest.fail(f"{page.name}: {command}")


def test_other_programs_are_marked(page: Path) -> None:
    """`tests/test_docs_run.py` runs the commands of vipnas; targets of make exist."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    for line in command_lines(page):
        program, *words = shlex.split(line, comments=True)
        if program == "make":
            assert {word for word in words if "=" not in word} <= targets, line
        else:
            assert program == "vipnas" or NOT_RUN in line, line


def test_python_and_yaml_are_valid(page: Path, tmp_path: Path) -> None:
    """Each experiment is valid, and each part of one as a part of a whole one."""
    known = {field.name for field in fields(ExperimentConfig)}
    for language, block in blocks(page):
        if language == "python":
            ast.parse(block)
        if language not in ("", "yaml") or NOT_RUN in block:
            continue
        (tmp_path / "part.yaml").write_text(block)
        try:
            part = read_yaml(tmp_path / "part.yaml")
        except UserError:
            assert language != "yaml", block
            continue
        if isinstance(part, dict) and part.keys() <= known:
            is_whole = {"space", "data", "retrain"} <= part.keys()
            parse(ExperimentConfig, part if is_whole else joined(WHOLE, part), page.name)


def joined(whole: Any, part: Any) -> Any:
    """Return a document with the values of a part of it."""
    if isinstance(whole, dict) and isinstance(part, dict):
        replaced = {"epochs"} if "hours" in part else set()
        kept = {key: value for key, value in whole.items() if key not in replaced}
        return {**kept, **{key: joined(whole.get(key), value) for key, value in part.items()}}
    return part


def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text())
    inside = {link for link in links if "://" not in link and not link.startswith("mailto:")}
    missing = {link for link in inside if not (page.parent / link).exists()}
    if page.is_relative_to(DOCS):  # the site has no other files
        missing |= {
            link for link in inside if not (page.parent / link).resolve().is_relative_to(DOCS)
        }
    assert not {link for link in missing if link.removeprefix("../") not in reference.pages()}


def sentences(page: Path) -> Iterator[str]:
    """Yield the sentences and parts of sentences of a page; code counts as one word."""
    text = re.sub(r"^```.*?^```|^    .*?$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"`[^`]*`", "code", text)
    for block in re.split(r"\n\n+|\n(?=- |\|)", text):
        for cell in block.split("|"):
            yield from re.split(r"[.!?:;]\*?\s+", " ".join(cell.split()))


def test_no_sentence_has_more_than_25_words(page: Path) -> None:
    assert [one for one in sentences(page) if len(one.split()) > 25] == []


def test_every_page_is_in_the_navigation() -> None:
    class Loader(yaml.SafeLoader):
        """mkdocs.yml without the tags of its extensions."""

    config = yaml.load((ROOT / "mkdocs.yml").read_text(), Loader)  # noqa: S506 (a SafeLoader)
    named = set(re.findall(r"[\w/]+\.md", str(config["nav"])))
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert named == pages | set(reference.pages())


def test_every_report_is_in_the_results() -> None:
    named = set(re.findall(r"`([\w.-]+\.md)`", (ROOT / "docs" / "results.md").read_text()))
    assert named == {path.name for path in (ROOT / "experiments" / "reports").glob("*.md")}


def test_every_key_of_an_experiment_has_a_meaning() -> None:
    rows = [line for line in experiment_page().splitlines() if line.startswith("| `")]
    assert len(rows) > 100
    assert [row for row in rows if row.endswith("|  |")] == []


def test_every_command_is_in_the_reference() -> None:
    page = commands_page()
    for name in ("train-supernet", "video retrain", "predict", "report", "doctor"):
        assert f"## vipnas {name}\n" in page
    assert "\x1b" not in page


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    pytest.importorskip("material")
    pytest.importorskip("mkdocstrings")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=300)
    assert (tmp_path / "reference" / "experiment" / "index.html").exists()
