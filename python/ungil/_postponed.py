"""Modules that are imported when they are used first, and not when they are named."""

from __future__ import annotations

import _thread
import sys
from importlib.machinery import PathFinder
from types import ModuleType

# Type checkers take this name for true; importing typing would slow every worker's start.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any


def postpone(package: str, name: str) -> None:
    """Imports a package, but a module of it only when somebody uses that.

    Args:
        package: The package.
        name: The module's name in it.
    """
    full = f"{package}.{name}"
    if full in sys.modules:
        return
    home = PathFinder.find_spec(package)
    spec = home and PathFinder.find_spec(full, home.submodule_search_locations)
    if spec is None or spec.loader is None:
        # Somebody else finds it, and then it is imported as it always is.
        return
    module = _Postponed(full)
    ModuleType.__setattr__(module, "__file__", spec.origin)
    ModuleType.__setattr__(module, "__loader__", spec.loader)
    ModuleType.__setattr__(module, "__package__", package)
    ModuleType.__setattr__(module, "__spec__", spec)
    sys.modules[full] = module
    # Its package has it as an attribute, as if it had been imported.
    setattr(__import__(package), name, module)


# One for all of them, and held by the thread that runs one.
_lock = _thread.RLock()
_running: set[str] = set()


class _Postponed(ModuleType):
    """A module that has not been run. When it has, it is one like any other."""

    def __getattr__(self, name: str) -> Any:
        _run(self)
        return ModuleType.__getattribute__(self, name)

    def __setattr__(self, name: str, value: object) -> None:
        _run(self)
        ModuleType.__setattr__(self, name, value)


def _run(module: ModuleType) -> None:
    name = module.__name__
    with _lock:
        # It may ask for something of itself while it runs.
        if type(module) is not _Postponed or name in _running:
            return
        _running.add(name)
        try:
            module.__spec__.loader.exec_module(module)  # type: ignore[union-attr]
            ModuleType.__setattr__(module, "__class__", ModuleType)
        finally:
            _running.discard(name)
