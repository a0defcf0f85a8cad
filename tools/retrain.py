"""`python tools/retrain.py EXPERIMENT ...` is `vipnas retrain`; `--help` lists the options."""

from __future__ import annotations

import sys

from vipnas.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["retrain", *sys.argv[1:]]))
