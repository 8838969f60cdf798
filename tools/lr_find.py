"""Find a learning rate: the same as `razorlite lr-find`, from a clone."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])  # not tools/, whose names are common

from razorlite.cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(["lr-find", *sys.argv[1:]]))
