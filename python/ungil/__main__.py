"""``python -m ungil`` and the console script ``ungil``."""

from __future__ import annotations

import sys


def main() -> int:
    """Runs the command line and returns its exit code.

    Returns:
        The exit code; ``ungil compare --help`` lists them.
    """
    from ungil import _core

    return _core.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
