"""`python tools/train_supernet.py EXPERIMENT ...` is `vipnas train-supernet`; see `--help`."""

from __future__ import annotations

import sys

from vipnas.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["train-supernet", *sys.argv[1:]]))
