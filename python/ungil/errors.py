"""What can go wrong between a task and its result, apart from the task itself.

Where the stdlib's process pool breaks as a whole, one future of ungil's fails, with an exception that
is a ``BrokenProcessPool`` all the same, so that code written for the stdlib catches it.
"""

from __future__ import annotations

from concurrent.futures.process import BrokenProcessPool

__all__ = ["TransferFailed", "WorkerCrashed"]


class WorkerCrashed(BrokenProcessPool):
    """The worker process that ran a task ended in the middle of it. The pool goes on.

    Attributes:
        task: The name of the function.
        pid: The worker's process number.
        exit_code: What it exited with, ``None`` if a signal ended it or nobody knows.
        signal: The number of the signal that ended it, ``None`` if it exited or nobody knows.
    """

    def __init__(
        self, task: str, pid: int, exit_code: int | None = None, signal: int | None = None
    ) -> None:
        super().__init__(task, pid, exit_code, signal)
        self.task = task
        self.pid = pid
        self.exit_code = exit_code
        self.signal = signal

    def __str__(self) -> str:
        if self.signal is not None:
            how = f"was ended by {_signal_name(self.signal)}"
            if self.signal == 9:
                how += " (somebody killed it, or the system ran out of memory)"
        elif self.exit_code is not None:
            how = f"exited with code {self.exit_code}"
        else:
            how = "ended; how is not known"
        return f"{self.task} was not finished: its worker, process {self.pid}, {how}"


class TransferFailed(BrokenProcessPool):
    """A call or its outcome could not be rebuilt on the other side. The pool goes on.

    The exception that pickle met is its ``__cause__``.

    Attributes:
        task: The name of the function.
    """

    def __init__(self, task: str, reason: str) -> None:
        super().__init__(task, reason)
        self.task = task
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.task}: {self.reason}"


def _signal_name(number: int) -> str:
    from signal import Signals

    try:
        return f"signal {number} ({Signals(number).name})"
    except ValueError:
        return f"signal {number}"
