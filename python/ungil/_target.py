"""The function under test: found by its name, imported, and looked at."""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import sys
from types import ModuleType
from typing import Any

from ungil._failures import Failure, of_import


def load_target(target: str, warnings: list[str]) -> tuple[ModuleType, Any]:
    """Finds ``path.py:function`` or ``package.module:function``.

    Args:
        target: The function, as the user named it.
        warnings: Gets what the user should know besides.

    Returns:
        The module and the object of that name.

    Raises:
        Failure: There is no such file, module or name, or importing it fails.
    """
    try:
        os.getcwd()
    except OSError:
        raise Failure(
            "target", "the current folder no longer exists: change to one that does"
        ) from None
    where, separator, name = target.rpartition(":")
    if not separator or not where or not name:
        example = target if target.endswith(".py") else "tasks.py"
        raise Failure(
            "target",
            f"{target!r} names no function: write path.py:function or package.module:function, "
            f"for example {example.strip(':')}:work",
        )
    is_path = where.endswith(".py") or os.sep in where or os.path.exists(where)
    module = _import_path(where, warnings) if is_path else _import_module(where)
    found: Any = module
    holder = where
    for part in name.split("."):
        if not hasattr(found, part):
            raise _missing_name(holder, found, part)
        found = getattr(found, part)
        holder = part
    return module, found


def _missing_name(where: str, holder: Any, name: str) -> Failure:
    import difflib

    members = getattr(holder, "__dict__", {})
    callables = [
        key for key, value in members.items() if callable(value) and not key.startswith("_")
    ]
    close = difflib.get_close_matches(name, callables, 1, cutoff=0.7)
    own = [
        key
        for key in callables
        if not isinstance(holder, ModuleType)
        or getattr(members[key], "__module__", None) == holder.__name__
    ]
    if close:
        hint = f": did you mean {close[0]}?"
    elif own:
        hint = f"; it has {', '.join(own[:8])}"
    else:
        hint = "; it defines no function"
    return Failure("target", f"{where} has no {name}{hint}")


def _import_path(path: str, warnings: list[str]) -> ModuleType:
    file = os.path.abspath(path)
    stem, suffix = os.path.splitext(os.path.basename(file))
    if os.path.isdir(file):
        raise Failure(
            "target", f"{path} is a folder: name a file in it, or import it as package.module"
        )
    if not os.path.isfile(file):
        raise Failure("target", f"there is no file {path} (looked for {file})")
    if suffix != ".py":
        raise Failure("target", f"{path} is not a Python file: its name must end in .py")
    folder = os.path.dirname(file)
    if stem in sys.stdlib_module_names or stem in sys.modules:
        owner = (
            "the standard library" if stem in sys.stdlib_module_names else "an installed package"
        )
        raise Failure(
            "target",
            f"{path} has the same name as the module {stem!r} of {owner}, and would be imported "
            f"in its place by the executors: rename it, for example to my_{stem}.py",
        )
    if "." in stem:
        raise Failure(
            "target",
            f"{path} cannot be imported, because its name has a dot in the middle: rename it, "
            f"for example to {stem.replace('.', '_')}.py",
        )
    hiding = sorted(
        name
        for entry in os.listdir(folder)
        for name in [entry.removesuffix(".py")]
        if name in sys.stdlib_module_names and (entry.endswith(".py"))
    )
    if hiding:
        warnings.append(
            f"the folder of {path} has {', '.join(name + '.py' for name in hiding)}, which hides "
            "the standard library's module of that name from whatever starts there: rename it."
        )
    sys.path.insert(0, folder)
    sys.argv[:] = [file]
    try:
        return importlib.import_module(stem)
    except BaseException as error:
        raise of_import(error, path) from None


def _import_module(name: str) -> ModuleType:
    folder = os.getcwd()
    first = name.partition(".")[0]
    if first in sys.stdlib_module_names:
        for hiding in (first + ".py", first):
            if os.path.exists(os.path.join(folder, hiding)):
                raise Failure(
                    "target",
                    f"{hiding} in the current folder has the same name as the module {first!r} of "
                    "the standard library, and would be imported in its place by the executors: "
                    f"rename it, for example to my_{hiding}",
                )
    sys.path.insert(0, folder)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            raise Failure(
                "target",
                f"there is no module {error.name} in the current folder or among the installed "
                "packages; a file is named with its .py, as in tasks.py:work",
            ) from None
        raise of_import(error, name) from None
    except BaseException as error:
        raise of_import(error, name) from None


def adopt_main(main: dict[str, Any], function: Any) -> None:
    """Lets functions and classes of the caller's ``__main__`` be found by name here as well.

    Pickle looks them up as attributes of ``__main__``, and a process that starts afresh imports
    the caller's script for them, just as in the caller's own program.

    Args:
        main: ``file`` of the caller's ``__main__``.
        function: The function under test.
    """
    module = sys.modules["__main__"]
    inner = inspect.unwrap(function) if callable(function) else function
    if getattr(inner, "__module__", None) == "__main__":
        for name, value in getattr(inner, "__globals__", {}).items():
            if not name.startswith("__"):
                setattr(module, name, value)
        qualified = getattr(inner, "__qualname__", "<")
        if qualified.isidentifier():
            setattr(module, qualified, function)
    if main["file"] is not None:
        module.__file__ = main["file"]


def name_of(function: Any) -> str:
    """What outputs call a function."""
    if isinstance(function, functools.partial):
        return name_of(function.func)
    return str(getattr(function, "__qualname__", None) or type(function).__name__)


def is_coroutine_function(function: Any) -> bool:
    """Whether calling it gives something to await."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - asks for the method, not whether it is one
    )


def memoised_by(function: Any) -> str | None:
    """What remembers the function's results, if it can be seen from outside."""
    while function is not None:
        if hasattr(function, "cache_info") and hasattr(function, "cache_clear"):
            return "functools.lru_cache"
        if hasattr(function, "cache") and hasattr(function, "cache_key"):
            return "cachetools"
        function = getattr(function, "__wrapped__", None)
    return None
