"""`python tools/search.py EXPERIMENT ...` is `vipnas search`; `--help` lists the options."""

from __future__ import annotations

import sys

from vipnas.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["search", *sys.argv[1:]]))
