"""`python -m aiorest_ws`: the `aiorest-ws` command."""

import sys

from aiorest_ws.cli import main

if __name__ == "__main__":
    sys.exit(main())
