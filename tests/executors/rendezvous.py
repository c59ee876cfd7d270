"""Where tests and tasks meet, in whichever process those run: named pipes in a test's own folder.

Both objects travel to workers by their path. The test's side holds its pipe open all the time, so
that what was written is not lost while nobody else has it open.
"""

from __future__ import annotations

import os
import select
import time
from pathlib import Path
from typing import Any

# The end of everything, the slowest machine included; nothing here should take a tenth of it.
SOON_S = 30.0


class _Pipe:
    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = os.fspath(path)
        self._own = self._connect()

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_own": None}

    def _connect(self) -> int:
        # For reading and writing, which waits for nobody.
        return os.open(self.path, os.O_RDWR | os.O_CLOEXEC)

    def close(self) -> None:
        """Lets go of the pipe."""
        if self._own is not None:
            os.close(self._own)
            self._own = None


class Gate(_Pipe):
    """Keeps tasks waiting until it is opened, and lets all pass from then on."""

    def wait(self, result: Any = None) -> Any:
        """Waits until the gate is open; returns what it was given."""
        pipe = self._connect()
        try:
            # Whoever passes leaves the gate open behind him.
            os.write(pipe, os.read(pipe, 1))
        finally:
            os.close(pipe)
        return result

    def open(self) -> None:
        """Lets everybody pass, those who wait and those who come."""
        if self._own is not None:
            os.write(self._own, b"!")


class Mailbox(_Pipe):
    """Takes short lines from tasks."""

    def post(self, line: object = "") -> None:
        """Leaves a line."""
        pipe = self._connect()
        try:
            # So few bytes are written at once, and do not mix with those of others.
            os.write(pipe, f"{line}\n".encode())
        finally:
            os.close(pipe)

    def take(self, count: int = 1, patience_s: float = SOON_S) -> list[str]:
        """Waits for so many lines."""
        lines: list[str] = []
        give_up_at = time.monotonic() + patience_s
        while len(lines) < count:
            left_s = give_up_at - time.monotonic()
            if left_s <= 0 or not select.select([self._own], [], [], left_s)[0]:
                raise AssertionError(f"waited in vain for {count} lines, got {lines}")
            lines.append(self._line())
        return lines

    def take_all(self) -> list[str]:
        """The lines that are there now."""
        lines = []
        while select.select([self._own], [], [], 0)[0]:
            lines.append(self._line())
        return lines

    def _line(self) -> str:
        assert self._own is not None
        line = b""
        while not line.endswith(b"\n"):
            line += os.read(self._own, 1)
        return line[:-1].decode()
