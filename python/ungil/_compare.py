"""``ungil.compare``: the experiment on a function of the caller's."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ungil._failures import Failure

if TYPE_CHECKING:
    from ungil.report import Report

_MODELS = ("serial", "asyncio", "threads", "interpreters", "processes", "processes_threads")

# The host must find this very package, and nothing else in its folder, whatever the caller's
# current folder is; -P keeps that folder out of the way while the host starts.
_BOOTSTRAP = (
    "import sys; folder = sys.argv[1]; sys.path.insert(0, folder); "
    "from ungil._host import main; sys.path.remove(folder); main()"
)


def host_command() -> list[str]:
    """The command that starts a host of a comparison.

    Returns:
        Program and arguments.

    Raises:
        RuntimeError: This program does not say which interpreter it runs in.
    """
    if not sys.executable:
        raise RuntimeError(
            "ungil starts Python processes to compare in, and sys.executable does not say which "
            "interpreter to start: set it to the path of one that has ungil installed"
        )
    from subprocess import _args_from_interpreter_flags  # type: ignore[attr-defined]

    folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    flags = [flag for flag in _args_from_interpreter_flags() if flag not in ("-P", "-i")]
    return [sys.executable, *flags, "-P", "-c", _BOOTSTRAP, folder, str(os.getpid())]


def compare(
    function: Callable[..., Any],
    items: Iterable[Any] | None = None,
    *,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    tasks: int | None = None,
    workers: int | Sequence[int] | None = None,
    models: Sequence[str] | None = None,
    engines: Sequence[str] = ("ungil",),
    budget: float = 60.0,
    rounds: int | None = None,
    log: bool = False,
    seed: int | None = None,
) -> Report:
    """Runs a function under every concurrency model and says which fits, and why.

    The function is called many times, in processes of its own, so it should be harmless to
    repeat. Functions of ``__main__`` and of notebooks are sent by value; where the processes of an
    engine could not run them, the report says so.

    Args:
        function: The function, or coroutine function, to compare.
        items: One call for each item, ``function(item, *args, **kwargs)``. Without items every
            task is the call ``function(*args, **kwargs)``.
        args: Positional arguments after the item.
        kwargs: Keyword arguments.
        tasks: Calls in one run of the job: the first so many items, repeated from the start
            where there are fewer. Without items the default is 8.
        workers: How many workers each model gets; several counts are a sweep. By default one
            for each usable CPU, and more for work that waits.
        models: Some of ``"serial"``, ``"asyncio"``, ``"threads"``, ``"interpreters"``,
            ``"processes"``, ``"processes-threads"``. By default all that apply. Serial is always
            run: it is what the others are compared with.
        engines: Whose executors run the models, several side by side: ``"ungil"``
            (``ungil.ThreadPoolExecutor`` and ``ungil.ProcessPoolExecutor``), ``"stdlib"``
            (``concurrent.futures``), ``"multiprocessing"`` (``multiprocessing.Pool``), or
            ``module:attribute`` for an engine of your own (see ``ungil.engines``).
        budget: How long the comparison may take, in seconds.
        rounds: Measured rounds, and fresh starts, at most; by default as many as it takes to tell
            the models apart, 40 and 8 at most.
        log: Whether to record, in one more run of each model, who ran which task when.
        seed: Seed of the random order of the rounds.

    Returns:
        The report; ``print(report)`` shows the table and the two sentences.

    Raises:
        TypeError: The function cannot be called, an argument has the wrong type, or the
            arguments do not fit the function.
        ValueError: An argument has an impossible value.
        RuntimeError: Nothing could be compared, or the call comes from a process that is still
            importing its main module.
        KeyboardInterrupt: Ctrl-C. No process is left behind.
    """
    _refuse_while_importing_main()
    plan, payload = _plan(
        function, items, args, kwargs, tasks, workers, models, engines, budget, rounds, log, seed
    )
    from ungil import _core
    from ungil.report import Report

    width = shutil.get_terminal_size((100, 24)).columns
    try:
        text_json, text = _core.compare(json.dumps(plan), payload, max(width, 40))
    except Failure as failure:
        raise _as_exception(failure) from None
    (data,) = json.loads(text_json)["comparisons"]
    return Report(data, text)


def _as_exception(failure: Failure) -> Exception:
    kinds = {
        "target": TypeError,
        "items": TypeError,
        "unpicklable": TypeError,
        "unavailable": ValueError,
    }
    return kinds.get(failure.kind, RuntimeError)(failure.message)


def _refuse_while_importing_main() -> None:
    multiprocessing = sys.modules.get("multiprocessing.process")
    if multiprocessing and getattr(multiprocessing.current_process(), "_inheriting", False):
        raise RuntimeError(
            "compare() was called while a worker process imported the main module: put the call "
            "under if __name__ == '__main__':"
        )


def _plan(
    function: Callable[..., Any],
    items: Iterable[Any] | None,
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None,
    tasks: int | None,
    workers: int | Sequence[int] | None,
    models: Sequence[str] | None,
    engines: Sequence[str],
    budget: float,
    rounds: int | None,
    log: bool,
    seed: int | None,
) -> tuple[dict[str, Any], bytes]:
    if not callable(function):
        raise TypeError(f"the first argument of compare() must be callable, and is {function!r}")
    if isinstance(items, (str, bytes)):
        raise TypeError("items is text, which would run one task a character: give a list of it")
    item_list = None if items is None else list(items)
    if item_list is not None and not item_list:
        raise ValueError("items is empty, so there is nothing to run")
    counts = None
    if workers is not None:
        counts = list(workers) if isinstance(workers, Iterable) else [workers]
        for count in counts:
            _check_count("workers", count)
        if not counts:
            raise ValueError("workers is an empty list: give counts, or leave it out")
    for name, value in (("tasks", tasks), ("rounds", rounds)):
        if value is not None:
            _check_count(name, value)
    if seed is not None:
        _check_seed(seed)
    if isinstance(args, (str, bytes)) or not isinstance(args, Iterable):
        raise TypeError(f"args must be a list or a tuple, and is {args!r}")
    if kwargs is not None and not isinstance(kwargs, Mapping):
        raise TypeError(f"kwargs must be a dict with names as keys, and is {kwargs!r}")
    if isinstance(budget, bool) or not isinstance(budget, (int, float)) or not budget > 0:
        raise ValueError(f"budget must be a positive number of seconds, and is {budget!r}")
    if isinstance(engines, str) or not engines:
        raise ValueError("engines must be a list of names, such as ['ungil']")
    plan = {
        "job": {
            "target": {"payload": _name_of(function)},
            "items": "none" if item_list is None else "payload",
            "arguments": None,
            "keywords": None,
            "tasks": tasks if tasks is not None or item_list is not None else 8,
            "engines": list(engines),
        },
        "models": None if models is None else [_check_model(model) for model in models],
        "engines": list(engines),
        "workers": None if counts is None else sorted(set(counts)),
        "budget_s": min(float(budget), 1e6),
        "rounds": rounds,
        "is_logged": bool(log),
        "seed": int.from_bytes(os.urandom(4)) if seed is None else seed,
    }
    return plan, _pickle_job(function, item_list, args, kwargs or {})


def _check_count(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number, and is {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, and is {value}")


def _check_seed(seed: object) -> None:
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise TypeError(f"seed must be a whole number, and is {seed!r}")
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed must be from 0 to 2**64 - 1, and is {seed}")


def _check_model(model: object) -> str:
    name = str(model).replace("-", "_")
    if name not in _MODELS:
        known = ", ".join(known.replace("_", "-") for known in _MODELS)
        raise ValueError(f"there is no model {model!r}; the models are {known}")
    return name


def _name_of(function: Any) -> str:
    return str(getattr(function, "__qualname__", None) or type(function).__name__)


def _pickle_job(
    function: Callable[..., Any],
    items: list[Any] | None,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> bytes:
    """The function and its tasks for the hosts; functions that cannot be imported by value."""
    import dataclasses
    import io
    import pickle

    import cloudpickle

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        # A dataclass is told by this very object that a field has no default. cloudpickle copies
        # it, and then neither dataclasses nor the next pickler know it again.
        dispatch_table = cloudpickle.Pickler.dispatch_table.new_child(
            {type(dataclasses.MISSING): lambda missing: "MISSING"}
        )

    main = sys.modules["__main__"]
    job = {
        "path": list(sys.path),
        "main": {"file": getattr(main, "__file__", None)},
        "function": function,
        "items": items,
        "arguments": tuple(args),
        "keywords": dict(kwargs),
    }
    try:
        head = pickle.dumps(job["path"])
        body = io.BytesIO()
        Pickler(body, pickle.HIGHEST_PROTOCOL).dump(job)
    except Exception as error:
        raise TypeError(
            f"{_name_of(function)}, its items or its arguments cannot be sent to the processes "
            f"that compare it ({type(error).__name__}: {error}): send something plain, such as a "
            "path or an id, and let the function open the rest"
        ) from None
    return len(head).to_bytes(8, "little") + head + body.getvalue()
