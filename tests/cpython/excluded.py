"""The cases of CPython's own tests that our executors do not pass, and why; there are no others.

A case is excluded for one of two reasons only: it reaches into the machinery of the stdlib, or it
demands what ours promises not to do.
"""

from __future__ import annotations

# The versions of Python whose tests this table was made for.
PREPARED_FOR = {(3, 13)}

_BREAKS = "demands that a worker's death breaks the pool: ours goes on"
_MANAGER = "waits for `_executor_manager_thread`, which is the stdlib's machinery"
_QUEUE = "waits for `_executor_manager_thread` and `_call_queue`, which are the stdlib's machinery"
_THREADS = "demands that the second thread of Python's, `_call_queue`'s feeder, be needed"

_METHODS = ("Fork", "Forkserver", "Spawn")


def _for_each_method(pattern: str, reason: str) -> dict[str, str]:
    return {pattern.format(method): reason for method in _METHODS}


# Case -> the attribute it reaches for, or the promise it depends on.
EXCLUDED = {
    **_for_each_method(
        "test_process_pool.ProcessPool{}ProcessPoolExecutorTest.test_killed_child", _BREAKS
    ),
    **_for_each_method(
        "test_process_pool.ProcessPool{}ProcessPoolExecutorTest.test_python_finalization_error",
        _THREADS,
    ),
    **_for_each_method(
        "test_shutdown.ProcessPool{}ProcessPoolShutdownTest.test_del_shutdown", _QUEUE
    ),
    **_for_each_method(
        "test_shutdown.ProcessPool{}ProcessPoolShutdownTest.test_shutdown_no_wait", _QUEUE
    ),
    **_for_each_method(
        "test_deadlock.ProcessPool{}ExecutorDeadlockTest.test_shutdown_deadlock_pickle", _MANAGER
    ),
}

_WINDOWS = "Windows-only process limit"
_DIFFERENT_FORK = "Incompatible with the fork start method."
_HANGS = "Hangs, see https://github.com/python/cpython/issues/83386"

# Case -> the reason for which it skips itself, whoever's executors it is given.
SKIPS_ITSELF = {
    **_for_each_method(
        "test_process_pool.ProcessPool{}ProcessPoolExecutorTest.test_max_workers_too_large",
        _WINDOWS,
    ),
    **{
        f"test_process_pool.ProcessPoolForkProcessPoolExecutorTest.{case}": _DIFFERENT_FORK
        for case in (
            "test_idle_process_reuse_one",
            "test_idle_process_reuse_multiple",
            "test_max_tasks_early_shutdown",
        )
    },
    **_for_each_method(
        "test_shutdown.ProcessPool{}ProcessPoolShutdownTest.test_hang_gh83386", _HANGS
    ),
}
