"""Shared parts of the tools that check a downloaded data set and write an index of it."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vipnas.files import write_atomically

INDEX = "index.json"


@dataclass(frozen=True)
class Preparation:
    """A tool that checks a dataset root.

    Attributes:
        name: Name of the tool.
        description: Text for `--help`.
        splits: Default splits.
        missing_parts: `missing_parts(root, splits)` returns lines on what to download.
        describe: `describe(root, split, skip_bad_images)` returns the split's entry of the index,
            or raises ValueError.
    """

    name: str
    description: str
    splits: Sequence[str]
    missing_parts: Callable[[Path, Sequence[str]], list[str]]
    describe: Callable[[Path, str, bool], dict[str, Any]]

    def main(self, arguments: Sequence[str] | None = None) -> int:
        """Write the index if the data are complete. Return the exit code."""
        parser = argparse.ArgumentParser(
            description=self.description, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        parser.add_argument("root", type=Path)
        parser.add_argument("--splits", nargs="+", default=self.splits)
        parser.add_argument(
            "--skip-bad-images", action="store_true", help="leave bad images out, and list them"
        )
        options = parser.parse_args(arguments)
        logging.basicConfig(level=logging.WARNING, format="%(message)s")
        problems = self.missing_parts(options.root, options.splits)
        index: dict[str, dict[str, Any]] = {}
        for split in options.splits if not problems else ():
            try:
                index[split] = self.describe(options.root, split, options.skip_bad_images)
            except ValueError as error:
                problems.append(str(error))
            else:
                counts = {key: n for key, n in index[split].items() if not isinstance(n, dict)}
                print(f"{split}: {json.dumps(counts)}")
        for problem in problems:
            print(f"{self.name}: {problem}", file=sys.stderr)
        if not problems:
            write_atomically(options.root / INDEX, json.dumps(index, indent=2) + "\n")
            print(f"index: {options.root / INDEX}")
        return 1 if problems else 0
