"""The Rust core of ungil."""

from typing import NoReturn

from ungil._workload import Workload

class Ticker:
    """Ticks every 5 ms in the calling thread and remembers how late each tick was."""

    def wait(self) -> None:
        """Sleeps without the GIL until the next tick is due, and takes its turn."""

    def turn(self) -> None:
        """Takes the calling thread's turn now."""

    def until_due_s(self) -> float:
        """Seconds until the next tick is due."""

def compare(plan: str, payload: bytes, width: int) -> tuple[str, str]:
    """Runs the comparison that ``plan`` (JSON) describes.

    Returns:
        The comparison as JSON, and as plain text of ``width`` columns.
    """

def die_with_parent(parent: int) -> None:
    """Makes this process end with its parent."""

def keep(host: int, experiment: int) -> NoReturn:
    """Waits for the host or the experiment to end, and ends everything that the host left."""

def main(arguments: list[str]) -> int:
    """Runs the command line; returns the exit code."""

def monotonic_ns() -> int:
    """Nanoseconds on the clock that all processes of the machine share."""

def note_stray() -> None:
    """Notes that a task forked and that the child came back from it."""

def prepare_keeper() -> None:
    """Prepares this process to keep a host: its own session, and the reaper of all below it."""

def serve(channel: int, workload: Workload, keeper: int) -> int:
    """Serves the experiment at the other end of ``channel`` until it hangs up.

    Returns:
        The exit code of the host.
    """
