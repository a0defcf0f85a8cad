"""No word in vipnas/ that the field has another word for.

A pattern is searched in all of a source file: docstrings, comments, strings and identifiers. Those
of `IN_PROSE` are searched in docstrings and comments only, outside of backticks.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "vipnas"
SOURCES = sorted(PACKAGE.rglob("*.py"))

# Pattern -> what to write instead. Only a leading (?i) ignores case.
PATTERNS = {
    r"(?i)\bdrawn (people|persons?|videos?|images?|data|sets?)\b": "synthetic people, videos",
    r"(?i)\banew\b": "regenerated, re-measured",
    r"(?i)\b(go|goes|going|went) on\b": "resumes, continues",
    r"(?i)\bfigures\b": "metrics",
    r"(?i)\b(held|hold|holds) out\b": "validation split",
    r"\bsearch_(persons|clips)\b": "val_persons, val_clips",
    r"""split\W+["']search["']""": "val",
    r"(?i)\btrain(s|ed|ing)? (\w+ )?on, ": "fine-tune",
    r"(?i)\balong (the |a |its |whole |video )*(clips?|videos?)\b": "fine-tune, on clips",
    r"(?i)\bbehind (it|a|the|its|each|every|which) ?(stage|layer|block|convolution)?": "after",
    r"(?i)(?<!\.)\bcarr(y|ied|ies) (along|forward)\b|\.carried\b|\bdef carried\b": "residual",
    r"\btruth_(steps|noise)": "teacher forcing",
    r"\bOpening\b|\bopening:": "progressive shrinking",
    r"\bWatchers?\b|(?i:\blooks? on\b)": "callback",
    r"\b[Ss]ights?\b|(?i:\bstretch(es)?\b)|(?i:\bappearances?\b)": "detection in a frame, tracklet",
    r"\bFound\b": "PoseResult",
    r"(?i)\bclocks? of (its|their) own\b": "scheduled per track",
    r"(?i)\blikeness(es)?\b": "similarity, kernel",
    r"\bkeep_best\b|\bdecay_similar\b": "oks_nms, soft_oks_nms",
    r"\bENDS\b": "reference architectures",
    r"(?i)\bpress(es|ed)? against\b": "saturate",
    r"\bpulls?_N\b|\bdoubts?_P\b": "alpha, posterior variance",
    r"\b_?leaning_sample\b": "biased sampling",
    r"\bsteady_ms\b": "drift-corrected latency",
    r"(?i)\bpatiently\b|\bquietest\b": "retry_if_noisy, least_busy_cores",
    r"\bDenseWhereQuicker\b|\bMOST_GROUPS\b": "DensifyGroupedConvs, MAX_GROUPS",
    r"(?i)\bfolder of (the|its) data's\b": "dataset root",
    r"(?i)\ba part lets\b": "a fraction lets several workers share a GPU",
    r"(?i)\ballowed (is|are)\b|\ballowed:|\bfound no one\b": "expected WHAT, got WHAT",
    r"(?i)\bholds? no [({]": "cannot slice",
    r"(?i)\bdisown": "invalidate",
    r"(?i)\bwaits? for the host\b|\bwho is quicker\b": "host-bound, order of completion",
    r"(?i)\bmembers?\b": "subnet",
    r"(?i)\ba text\b|\bmistakes?\b": "a string, a bug",
    r"\bcover_partly\b": "occlude",
    r"\blatency[./](turns|products|processes)\b": "interleaved, gemm_reference, gaussian_process",
    r"(?i)\bpeople of (the )?(training|tests?)\b": "training persons, test persons",
    r"(?i)\bstands?\b(?![ -](alone|in)\b)|\bstood\b|\blies\b": "exists, is stored",
    r"(?i)\b(is|are|was|were) there\b(?! \w*ing\b)": "exists, is available",
}
IN_PROSE = {r"(?<!-)\barchs?\b(?!:)": "architecture"}

# Text that a pattern matches in a file where it has another sense, or is an old name on purpose.
EXCEPTIONS: dict[str, set[str]] = {
    "config/clip.py": {"search_clips", "truth_steps", "truth_noise"},
    "validation.py": {"member", "members"},  # of a union of types
    "search/constraints.py": {"members"},  # of a small space: FeasibleSpace.members
    "search/searchers.py": {"members", "member"},  # of a population
    "search/searchers_nsga2.py": {"member"},
    "search/searchers_predictor.py": {"members"},
    "config/search.py": {"members"},
    # "stretch" is of an image: a value of settings, of headers and of descriptions of models.
    "config/data.py": {"search_persons", "stretch"},
    "data/crops/augmentation.py": {"stretch"},
    "data/crops/geometry.py": {"stretch"},
    "models/header.py": {"stretch"},
    "deploy/describe.py": {"stretch"},
    "deploy/foreign.py": {"stretch"},
}


def prose_of(source: str) -> Iterator[str]:
    """Docstrings and comments without what is in backticks."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield re.sub(r"`[^`]*`", "", ast.get_docstring(node) or "")
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield re.sub(r"`[^`]*`", "", token.string)


def matches(source: str, exceptions: Collection[str] = ()) -> list[str]:
    """What the patterns find, each with what to write instead."""
    has_word = any(re.search(pattern, source) for pattern in IN_PROSE)  # else save the parsing
    prose = "\n".join(prose_of(source)) if has_word else ""
    found = [
        (match.group().strip(), instead)
        for text, patterns in ((source, PATTERNS), (prose, IN_PROSE))
        for pattern, instead in patterns.items()
        for match in re.finditer(pattern, text)
    ]
    return [f"{word!r}: write {instead}" for word, instead in found if word not in exceptions]


def matches_in(path: Path) -> list[str]:
    name = path.relative_to(PACKAGE).as_posix()
    return matches(path.read_text(encoding="utf-8"), EXCEPTIONS.get(name, set()))


def test_no_word_that_the_field_has_another_for() -> None:
    found = {path: matches_in(path) for path in SOURCES}
    assert {path: words for path, words in found.items() if words} == {}


@pytest.mark.parametrize("name", EXCEPTIONS)
def test_every_exception_is_needed(name: str) -> None:
    every = " ".join(matches((PACKAGE / name).read_text(encoding="utf-8")))
    assert all(f"'{word}'" in every for word in EXCEPTIONS[name])


@pytest.mark.parametrize(
    "words",
    [
        "drawn people",
        "tables must be made anew",
        "goes on where it was killed",
        "all figures as JSON",
        "people held out for the search",
        "search_persons",
        'split == "search"',
        "train a clip's networks on, along the clip",
        "stands behind it",
        "heatmaps carried along",
        "truth_steps",
        "Opening",
        "Watcher",
        "looks on",
        "class Sight",
        "Found",
        "a clock of their own",
        "likeness",
        "keep_best",
        "ENDS",
        "scores press against a top",
        "pulls_N",
        "_leaning_sample",
        "steady_ms",
        "patiently",
        "MOST_GROUPS",
        "folder of the data's paths",
        "a part lets them share one",
        "allowed is none",
        "found no one source",
        "holds no (16, 3)",
        "does not disown",
        "who is quicker",
        "members of a supernet",
        "a text",
        "cover_partly",
        "people of the test",
        "a file lies there",
        "is there",
        "# an arch in prose",
    ],
)
def test_what_is_not_the_fields_is_found(words: str) -> None:
    source = words if words.startswith("#") else f'"""{words}"""' if '"' not in words else words
    assert matches(source)


@pytest.mark.parametrize(
    "words",
    [
        "synthetic people, re-measured, resumes where it was killed",
        "a matplotlib figure; a worker process",
        "the validation split; fine-tune on clips; after the stage",
        "teacher forcing; progressive shrinking; similarity",
        "expected one of a, b, got c",
        "stand-alone networks; understand; `arch` of a subnet",
        "standard deviation; subnet; a string",
    ],
)
def test_what_the_field_says_is_not_found(words: str) -> None:
    assert matches(f'"""{words}"""') == []
