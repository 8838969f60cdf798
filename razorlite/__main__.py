"""`python -m razorlite` is the `razorlite` command."""

import sys

from razorlite.cli import main

if __name__ == "__main__":
    sys.exit(main())
