"""The function under test, its tasks and their results, as a host holds them."""

from __future__ import annotations

import functools
import inspect
import itertools
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ungil import _tasks, engines
from ungil._failures import (
    Failure,
    describe_exception,
    describe_value,
    of_run,
    of_start,
)
from ungil._results import same
from ungil._target import (
    adopt_main,
    is_coroutine_function,
    load_target,
    memoised_by,
    name_of,
)
from ungil._values import evaluate, evaluate_items, line_value

if TYPE_CHECKING:
    from ungil._core import Ticker

_THREAD_SETTINGS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


class Workload:
    """What the Rust side of a host asks for, by these names."""

    def __init__(self) -> None:
        self.function: Any = _tasks.do_nothing
        self.name = ""
        self.call: _tasks.Call = _tasks.do_nothing
        self.items: Sequence[Any] = []
        self.results: list[Any] = []
        self._reference: list[Any] = []
        self._is_coroutine_function = False
        self._hiding: list[str] = []

    def load(self, job: dict[str, Any], payload: bytes) -> dict[str, Any]:
        """Imports the function and builds the items.

        Args:
            job: The job, with the fields of the Rust struct of that name.
            payload: What of the job travels as bytes.

        Returns:
            The fields of the Rust struct ``Loaded``.

        Raises:
            Failure: The target, the items or the arguments are wrong.
        """
        warnings: list[str] = []
        sent: dict[str, Any] = {}
        namespace: dict[str, Any] = {}
        if "payload" in job["target"]:
            sent = _open_job(payload)
            adopt_main(sent["main"], sent["function"])
            self.function = sent["function"]
        else:
            module, self.function = load_target(job["target"]["named"], warnings)
            self._hiding = list(warnings)
            namespace = vars(module)
        self.name = name_of(self.function)
        if not callable(self.function):
            named = job["target"].get("named", self.name)
            raise Failure(
                "target",
                f"{named} is {describe_value(self.function)}, which cannot be called: name a "
                "function",
            )
        self._check_function()
        offers = _offers(["python", *job["engines"]])
        arguments, keywords = self._arguments(job, sent, namespace)
        self.items = self._items(job, sent, payload, namespace)
        has_items = job["items"] != "none"
        self._check_signature(has_items, arguments, keywords)
        self.call = self._make_call(has_items, arguments, keywords)
        self._is_coroutine_function = is_coroutine_function(self.function)
        return {
            "function": self.name,
            "tasks": len(self.items),
            "is_coroutine_function": self._is_coroutine_function,
            "memoised_by": memoised_by(self.function),
            "python": _describe_python(job["engines"]),
            "offers": offers,
            "warnings": warnings,
        }

    def _check_function(self) -> None:
        if inspect.isgeneratorfunction(self.function) or inspect.isasyncgenfunction(self.function):
            raise Failure(
                "target",
                f"{self.name}() is a generator function: calling it does no work yet. Name a "
                "function that consumes it, for example one that returns list(...) of it",
            )

    def _arguments(
        self, job: dict[str, Any], sent: dict[str, Any], namespace: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if sent:
            return tuple(sent["arguments"]), dict(sent["keywords"])
        arguments: Any = ()
        keywords: Any = {}
        if job["arguments"] is not None:
            arguments = evaluate(job["arguments"], "--args", namespace)
            if not isinstance(arguments, (list, tuple)):
                raise Failure(
                    "items",
                    f"--args must be a list or a tuple, such as '[3, \"text\"]', and is "
                    f"{describe_value(arguments)}",
                )
        if job["keywords"] is not None:
            keywords = evaluate(job["keywords"], "--kwargs", namespace)
            if not isinstance(keywords, dict) or not all(isinstance(key, str) for key in keywords):
                raise Failure(
                    "items",
                    "--kwargs must be a dict with names as keys, such as '{\"size\": 3}', and is "
                    f"{describe_value(keywords)}",
                )
        return tuple(arguments), dict(keywords)

    def _items(
        self,
        job: dict[str, Any],
        sent: dict[str, Any],
        payload: bytes,
        namespace: dict[str, Any],
    ) -> list[Any]:
        source, tasks = job["items"], job["tasks"]
        if source == "none":
            return [None] * (tasks or 1)
        if source == "payload":
            # Items that were built in another host are whole already.
            items = sent["items"] if sent else _unpickle(payload, "the items")
            if not sent:
                return list(items)
        elif "lines" in source:
            items = [line_value(line) for line in source["lines"]]
        else:
            items = evaluate_items(source["expression"], namespace)
        if not items:
            raise Failure("items", "there are no items, so there is nothing to run")
        if tasks is not None:
            items = list(itertools.islice(itertools.cycle(items), tasks))
        return list(items)

    def _check_signature(
        self, has_items: bool, arguments: tuple[Any, ...], keywords: dict[str, Any]
    ) -> None:
        try:
            signature = inspect.signature(self.function)
        except (TypeError, ValueError):
            # Some functions written in C do not tell; the first call will.
            return
        given = (self.items[0], *arguments) if has_items else arguments
        try:
            signature.bind(*given, **keywords)
        except TypeError as error:
            shown = ", ".join(
                [
                    *(describe_value(value, 30) for value in given),
                    *(f"{name}={describe_value(value, 30)}" for name, value in keywords.items()),
                ]
            )
            hint = ""
            if not has_items and not arguments and not keywords:
                hint = ". Give --items, one for each call, or --args with --tasks"
            raise Failure(
                "items",
                f"{self.name}{signature} cannot be called as {self.name}({shown}): {error}{hint}",
            ) from None

    def _make_call(
        self, has_items: bool, arguments: tuple[Any, ...], keywords: dict[str, Any]
    ) -> _tasks.Call:
        if not has_items:
            return _tasks.SameCall(self.function, arguments, keywords)
        if arguments:
            return _tasks.ItemFirst(self.function, arguments, keywords)
        if keywords:
            return functools.partial(self.function, **keywords)
        # The plain function, so that nothing of ungil's is in its way.
        plain: _tasks.Call = self.function
        return plain

    def open(self, engine: str, model: str, workers: int, threads_per_worker: int) -> Session:
        """Makes a pool of an engine for the loaded job."""
        setup = engines.Setup(model, workers, threads_per_worker, self._is_coroutine_function)
        try:
            pool = engines.find(engine).open(setup)
        except Exception as error:
            raise self.start_failure(error, setup) from None
        return Session(self, setup, pool)

    def start_failure(self, error: Exception, setup: engines.Setup) -> Failure:
        """Says why the workers of a setup could not be started."""
        return of_start(error, setup.model, setup.workers, " ".join(self._hiding))

    def pickled_items(self) -> bytes | None:
        """The items as bytes, ``None`` if they cannot be pickled."""
        return _pickle(list(self.items))

    def pickled_results(self) -> bytes | None:
        """The results of the last run as bytes, ``None`` if they cannot be pickled."""
        return _pickle(self.results)

    def set_reference(self, payload: bytes) -> None:
        """Sets what the results of the following runs are compared with."""
        self._reference = _unpickle(payload, "the results of the serial run")

    def agreement(self) -> dict[str, Any]:
        """Compares the results of the last run with the reference."""
        if len(self.results) != len(self._reference):
            return _different(0, 1, len(self._reference), len(self.results), "results")
        # Most results are plain, and a million of them should not take a second to compare.
        with suppress(Exception):
            if self.results == self._reference:
                return {"state": "equal"}
        unclear = None
        differing = []
        pairs = zip(self._reference, self.results, strict=True)
        for task, (expected, found) in enumerate(pairs):
            answer = same(expected, found)
            if answer is None and unclear is None:
                unclear = type(found).__name__
            elif answer is False:
                differing.append(task)
        if differing:
            task = differing[0]
            return _different(task, len(differing), self._reference[task], self.results[task], None)
        if unclear is not None:
            reason = f"equality has no meaning for what {self.name}() returns ({unclear})"
            return {"state": "cannot_tell", "reason": reason}
        return {"state": "equal"}

    def serialisation_samples(self) -> list[tuple[Any, Any]]:
        """Items and results of up to 100 tasks, spread over all of them."""
        step = max(1, len(self.items) // 100)
        return list(zip(self.items[::step], self.results[::step], strict=False))


class Session:
    """An open pool that runs the loaded job."""

    def __init__(self, workload: Workload, setup: engines.Setup, pool: engines.Pool) -> None:
        self._workload = workload
        self._setup = setup
        self._pool = pool
        self._pickles = setup.model in {"processes", "processes_threads", "interpreters"}

    def start(self, now_ns: Callable[[], int]) -> tuple[int, list[tuple[int, int, int]]]:
        """See [`Pool.start`][ungil.engines.Pool.start]."""
        try:
            return self._pool.start(now_ns)
        except Exception as error:
            raise self._workload.start_failure(error, self._setup) from None

    def run(self) -> None:
        """Runs all tasks once and keeps their results."""
        self._workload.results = []
        self._workload.results = self._tell(self._pool.run)

    def run_ticking(self, ticker: Ticker) -> None:
        """Runs all tasks once while the calling thread ticks, and keeps their results."""
        self._workload.results = []
        self._workload.results = self._tell(self._pool.run_ticking, ticker)

    def run_logged(self) -> list[tuple[int, int, str, str, int, int]]:
        """Runs all tasks once, keeps their results, and returns who ran which."""
        records = self._tell(self._pool.run_logged)
        self._workload.results = [record[0] for record in records]
        return [(task, *record[1:]) for task, record in enumerate(records)]

    def _tell(self, run: Callable[..., list[Any]], *arguments: Any) -> list[Any]:
        workload = self._workload
        try:
            results = run(workload.call, workload.items, *arguments)
            self._refuse_unfinished(results)
            return results
        except BaseException as error:
            pool = self._pool if self._pickles else None
            failure = of_run(error, workload.name, pool, workload.call, workload.items)
            raise failure from None

    def _refuse_unfinished(self, results: list[Any]) -> None:
        """A result that still has to be awaited or iterated means that no work was done."""
        first = results[0] if results else None
        is_coroutine = inspect.iscoroutine(first) or isinstance(first, _tasks.Unawaited)
        if not is_coroutine and not inspect.isgenerator(first):
            return
        for result in results:
            # Left open it would be complained about, as never awaited.
            if inspect.iscoroutine(result) or inspect.isgenerator(result):
                result.close()
        kind = "coroutine that nobody awaits" if is_coroutine else "generator"
        name = self._workload.name
        raise Failure(
            "target",
            f"{name}() returns a {kind}, so a call does no work: compare an async def function "
            "itself, or one that consumes what this one returns",
        )

    def probe_sharing(self) -> tuple[bool, bool]:
        """See [`Pool.probe_sharing`][ungil.engines.Pool.probe_sharing]."""
        return self._pool.probe_sharing()

    def close(self) -> None:
        """Ends the workers and waits for them."""
        self._pool.close()


def _offers(names: Sequence[str]) -> list[dict[str, Any]]:
    offers = []
    for name in dict.fromkeys(names):
        try:
            models = engines.find(name).models()
        except LookupError as error:
            raise Failure("unavailable", str(error)) from None
        offers.append({"engine": name, "models": models})
    return offers


def _different(
    task: int, tasks: int, expected: Any, found: Any, what: str | None
) -> dict[str, Any]:
    suffix = f" {what}" if what else ""
    return {
        "state": "different",
        "task": task,
        "tasks": tasks,
        "expected": describe_value(expected) + suffix,
        "found": describe_value(found) + suffix,
    }


def _pickle(value: Any) -> bytes | None:
    import pickle

    def by_value(value: Any, protocol: int) -> bytes:
        # Slower and larger to import, so only for what plain pickle cannot do.
        import cloudpickle

        return bytes(cloudpickle.dumps(value, protocol))

    for dumps in (pickle.dumps, by_value):
        try:
            return dumps(value, pickle.HIGHEST_PROTOCOL)
        except Exception:
            continue
    return None


def _open_job(payload: bytes) -> dict[str, Any]:
    """Unpickles a job that the caller sent; its search path is needed before anything else."""
    start = 8 + int.from_bytes(payload[:8], "little")
    sys.path[:] = _unpickle(payload[8:start], "the search path")
    job: dict[str, Any] = _unpickle(payload[start:], "the function")
    return job


def _unpickle(payload: bytes, what: str) -> Any:
    import pickle

    try:
        return pickle.loads(payload)
    except BaseException as error:
        raise Failure(
            "unpicklable",
            f"{what} cannot be rebuilt in another process: {describe_exception(error)}",
        ) from None


def _describe_python(names: Sequence[str]) -> dict[str, Any]:
    import platform

    return {
        "version": platform.python_version(),
        "implementation": platform.python_implementation(),
        "build": " ".join(sys.version.split()),
        "gil_enabled": getattr(sys, "_is_gil_enabled", lambda: True)(),
        "start_method": _start_methods(names),
        "native_thread_settings": [
            f"{name}={os.environ[name]}" for name in _THREAD_SETTINGS if name in os.environ
        ],
    }


def _start_methods(names: Sequence[str]) -> str:
    """How these engines start processes; each with its method, where they differ."""
    methods = {
        name: str(getattr(engines.find(name), "start_method", _start_method)())
        for name in dict.fromkeys(names)
    }
    if len(set(methods.values())) == 1:
        return next(iter(methods.values()))
    return ", ".join(f"{method} ({name})" for name, method in methods.items())


def _start_method() -> str:
    """How ``multiprocessing`` starts processes."""
    # Importing multiprocessing only to ask would take its import out of the measured cold start.
    multiprocessing = sys.modules.get("multiprocessing")
    chosen = multiprocessing.get_start_method(allow_none=True) if multiprocessing else None
    return chosen or ("forkserver" if sys.version_info >= (3, 14) else "fork")
