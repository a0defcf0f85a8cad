"""The command line itself: help, examples, completion, errors of arguments."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

from vipnas.cli.main import main, parser_of_all_commands
from vipnas.cli.texts import TEXTS

HEAVY = {"torch", "numpy", "cv2", "pydantic", "yaml", "matplotlib", "ray", "shtab"}


def commands_of(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command below a parser, actions of commands too, by its name."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield command.prog.partition(" ")[2], command
                yield from commands_of(command)


COMMANDS = dict(commands_of(parser_of_all_commands()))


def test_every_command_has_a_text_and_every_text_a_command() -> None:
    assert COMMANDS.keys() == TEXTS.keys()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_argument_has_a_help_text(name: str) -> None:
    parser = COMMANDS[name]
    without = [action.dest for action in parser._actions if not action.help]
    assert without == (["action"] if name == "video" else [])
    shown = parser.format_help()
    assert all(f"  {example}" in shown for example in TEXTS[name].examples)


@pytest.mark.parametrize("example", [line for text in TEXTS.values() for line in text.examples])
def test_every_example_is_understood(example: str) -> None:
    arguments = shlex.split(example.partition(" > ")[0])[1:]
    assert callable(parser_of_all_commands().parse_args(arguments).run)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("predict m a.jpg -o b --min-score nan", "a finite number, got 'nan'"),
        ("label m a.jpg -o b.json --min-score x", "a finite number, got 'x'"),
        ("predict m a.jpg -o b --threads 100000000", "a whole number from 1 to 1024"),
        ("info m --sigma-px -1", "a number above 0, got '-1'"),
        ("cost a.json --latency --max-spread nan", "a finite number, got 'nan'"),
        ("demo --seed -1", "a whole number from 0, got '-1'"),
    ],
)
def test_numbers_that_no_run_can_use_are_refused_at_once(
    arguments: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(shlex.split(arguments))
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert f": expected {expected}" in error and error.count("\n") == 1


def test_arguments_are_grouped(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["search", "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    places = [shown.index(f"\n{title}") for title in ("Run and data:", "Workers", "examples:")]
    assert places == sorted(places)
    assert "[cluster]" in shown  # brackets are no markup


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["serch"], ("vipnas: ", "invalid choice: 'serch'", "(see vipnas --help)")),
        (["cost"], ("vipnas cost: ", "required", "(see vipnas cost --help)")),
        (["profile", "tiny", "--threads", "0"], ("a whole number from 1 to 1024, got '0'",)),
        (["evaluate", "ci", "--split", "search"], ("--split", "got 'search' (renamed: use val)")),
        (["inspect-data", "ci", "--split", "search"], ("got 'search' (renamed: use val)",)),
        (["video", "evaluate", "ci", "--split", "search"], ("got 'search' (renamed: use val)",)),
        (["inspect-data", "ci", "--split", "valid"], ("invalid choice: 'valid'",)),
    ],
)
def test_a_wrong_argument_is_one_line(
    arguments: list[str], words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert all(word in line for word in words), line


def test_help_imports_nothing_heavy() -> None:
    """`vipnas --help` has 0.3 s, which any of these would take alone."""
    command = (
        "import sys\nfrom vipnas.cli.main import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        f"print(sorted({HEAVY!r} & sys.modules.keys()), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True)
    assert done.stdout.startswith("Usage: vipnas")
    assert done.stderr.strip() == "[]"


def completion(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["completion", shell]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_all_commands_and_is_valid(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    script = completion(shell, capsys)
    assert all(word in script for name in COMMANDS for word in name.split())
    assert "skip-bad-images" in script
    if (program := shutil.which(shell)) is not None:
        subprocess.run([program, "-n"], input=script, text=True, check=True)


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["train-s"], ["train-supernet"]),
        (["video", "re"], ["retrain"]),
        (["search", "--wor"], ["--workers"]),
        (["completion", "f"], ["fish"]),
    ],
)
def test_bash_completes(
    words: list[str], expected: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    ask = (
        f"\nCOMP_WORDS=(vipnas {' '.join(words)}); COMP_CWORD={len(words)}\n"
        '_shtab_vipnas; printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    script = completion("bash", capsys) + ask
    done = subprocess.run(["bash"], input=script, capture_output=True, text=True, check=True)
    assert done.stdout.split() == expected


def test_an_output_that_nobody_reads_any_more_ends_without_a_word(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in `vipnas cost tiny | head -1`."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        assert main(["cost", "published/s_vipnas_mbv3"]) == 1
    assert capsys.readouterr().err == ""
