"""``python -m ungil`` and the console script ``ungil``."""

from __future__ import annotations

import sys


def main() -> int:
    """Runs the command line and returns its exit code.

    Returns:
        The exit code; ``ungil compare --help`` lists them.
    """
    from ungil import _core

    try:
        return _core.main(sys.argv[1:])
    except KeyboardInterrupt:
        # A second Ctrl-C, while the first one was being obeyed.
        return 130


if __name__ == "__main__":
    if not sys.flags.safe_path:
        # -m puts the current folder first, where a json.py would be taken for the real one.
        del sys.path[0]
    sys.exit(main())
