"""`python -m vipnas`: the same as the `vipnas` command."""

import sys

from vipnas.cli.main import main

sys.exit(main())
