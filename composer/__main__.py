"""The `composer` command. Hands over at once; everything else is imported when it is needed."""

from __future__ import annotations

import sys


def main() -> int:
    from composer.cli.app import main as run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
