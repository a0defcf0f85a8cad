"""Count lines of a commit, and list what is long: a brake on growth.

    python -m tools.sizes [COMMIT]

Prints for `vipnas/` and `tools/` the number of files, their lines, and their lines of code (without
docstrings, comments and blank lines); files over 300 lines; functions over 50; and the lines of
stages and training that only clips need.
"""

from __future__ import annotations

import ast
import io
import subprocess
import sys
import tokenize

MAX_FILE, MAX_FUNCTION = 300, 50
ROOTS = ("vipnas/", "tools/")
# Whole files, those of earlier commits too, or some of their classes and functions.
CLIP_ONLY: dict[str, tuple[str, ...]] = {
    "vipnas/pipeline/clip_level.py": (),
    "vipnas/pipeline/clip_online.py": (),
    "vipnas/pipeline/clip_summary.py": (),
    "vipnas/pipeline/clip_data.py": (),
    "vipnas/pipeline/datasets.py": ("videos", "training_clips", "clips", "follow_up_space"),
    "vipnas/training/step.py": ("ClipTask",),
}
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}


def main(commit: str = "HEAD") -> int:
    names = _git("ls-tree", "-r", "--name-only", commit, *ROOTS).splitlines()
    sources = {name: _git("show", f"{commit}:{name}") for name in names if name.endswith(".py")}
    for root in ROOTS:
        own = [source for name, source in sources.items() if name.startswith(root)]
        lines, code = sum(map(count_lines, own)), sum(map(count_code, own))
        print(f"{root}: {len(own)} files, {lines:,} lines, {code:,} of code")
    for name, source in sources.items():
        if (lines := count_lines(source)) > MAX_FILE:
            print(f"{name}: {lines} lines")
        for function, lines in function_lines(source).items():
            if lines > MAX_FUNCTION:
                print(f"{name}: {function}: {lines} lines")
    clips = clip_only_lines(sources)
    print(f"only for clips, in stages and training: {sum(clips.values())} lines, {clips}")
    return 0


def clip_only_lines(sources: dict[str, str]) -> dict[str, int]:
    """Return the lines of each file that only clips need."""
    return {
        name: _lines_of(sources[name], parts) if parts else count_lines(sources[name])
        for name, parts in CLIP_ONLY.items()
        if name in sources
    }


def _lines_of(source: str, names: tuple[str, ...]) -> int:
    return sum(
        (node.end_lineno or 0) - node.lineno + 1
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name in names
    )


def count_lines(source: str) -> int:
    return len(source.splitlines())


def count_code(source: str) -> int:
    """Return the lines without docstrings, comments and blank lines."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    code = {
        line
        for token in tokens
        if token.type not in NO_CODE
        for line in range(token.start[0], token.end[0] + 1)
    }
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node) is not None:
            text = node.body[0]
            code -= set(range(text.lineno, (text.end_lineno or 0) + 1))
    return len(code)


def function_lines(source: str) -> dict[str, int]:
    """Return the number of lines of each function, by its name and first line."""
    return {
        f"{node.name}, line {node.lineno}": (node.end_lineno or 0) - node.lineno + 1
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def _git(*words: str) -> str:
    return subprocess.run(("git", *words), capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
