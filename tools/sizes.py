"""Count lines of a commit, and list what is long: a brake on growth.

    python -m tools.sizes [COMMIT]

Prints for `vipnas/` and `tools/` the number of files, their lines, and their lines of code (without
docstrings, comments and blank lines); files over 300 lines; functions over 50.
"""

from __future__ import annotations

import ast
import io
import subprocess
import sys
import tokenize

MAX_FILE, MAX_FUNCTION = 300, 50
ROOTS = ("vipnas/", "tools/")
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
    return 0


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
