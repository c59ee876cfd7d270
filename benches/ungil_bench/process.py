"""The process that a peer is measured in, as the benchmark sees it."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent
# The variable that names a folder which is removed when the process has ended.
SCRATCH = "UNGIL_BENCH_SCRATCH"
# How long a peer may take to end by itself.
CLOSING_S = 10.0


class Failed(Exception):
    """A peer could not be measured."""


class PeerProcess:
    """A process that measures one peer. It is asked and answers in lines of JSON."""

    def __init__(self, command: list[str], cgroup: Path | None = None) -> None:
        environment = {**os.environ}
        # Who asks that nothing compiled is kept does not ask how long compiling takes each time.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        # Workers that some peer starts afresh find the work by this.
        paths = [str(FOLDER), *filter(None, [environment.get("PYTHONPATH")])]
        environment["PYTHONPATH"] = os.pathsep.join(paths)
        # Large arrays that joblib writes for its workers, and Ray's sockets and logs.
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        scratch = tempfile.mkdtemp(prefix="ungil-bench-", dir=memory)
        environment[SCRATCH] = environment["JOBLIB_TEMP_FOLDER"] = scratch
        lifeline, self._lifeline = os.pipe()
        measure = [sys.executable, str(FOLDER / "measure.py"), *command]
        keeper = [sys.executable, "-I", "-S", str(FOLDER / "ungil_bench" / "keeper.py")]
        self._process = subprocess.Popen(
            [*keeper, str(lifeline), str(cgroup or ""), scratch, *measure],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            pass_fds=[lifeline],
            # Ctrl-C ends the benchmark, which ends this.
            process_group=0,
        )
        os.close(lifeline)
        self._unread = b""

    def ask(self, request: dict[str, Any] | None, patience_s: float) -> dict[str, Any]:
        """One answer, to a request or to the command itself."""
        assert self._process.stdin is not None
        if request is not None:
            try:
                self._process.stdin.write(json.dumps(request).encode() + b"\n")
                self._process.stdin.flush()
            except BrokenPipeError:
                raise Failed("its process has ended") from None
        answer: dict[str, Any] = json.loads(self._line(patience_s))
        if "error" in answer:
            raise Failed(answer["error"])
        return answer

    def _line(self, patience_s: float) -> bytes:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        give_up_at = time.monotonic() + patience_s
        while b"\n" not in self._unread:
            left = give_up_at - time.monotonic()
            if left <= 0 or not select.select([descriptor], [], [], left)[0]:
                raise Failed(f"no figures after {patience_s:.0f} s")
            some = os.read(descriptor, 1 << 16)
            if not some:
                raise Failed("its process has ended")
            self._unread += some
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def close(self, is_forced: bool = False) -> None:
        """Lets the process end, or makes it, and everything that it started."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            is_forced = True
        if not is_forced:
            try:
                self._process.wait(CLOSING_S)
            except subprocess.TimeoutExpired:
                pass
            except BaseException:
                os.close(self._lifeline)
                self._process.wait()
                raise
        os.close(self._lifeline)
        self._process.wait()
        self._process.stdout.close()
