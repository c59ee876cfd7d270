"""Modules that are imported when they are used first, and not when they are named."""

from __future__ import annotations

import sys
from _frozen_importlib import (  # type: ignore[attr-defined]
    _DeadlockError,
    _ModuleLockManager,
)
from _frozen_importlib_external import PathFinder

# Type checkers take this name for true; importing typing would slow every worker's start.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any
else:
    ModuleType = type(sys)


def postpone(name: str) -> None:
    """Imports a module without running it: that happens when somebody uses it.

    Nothing is done if it is there already, or if somebody else than the path's finder finds it: then
    it is imported as it always is.

    Args:
        name: The module's full name. Its package, if it is in one, was imported or postponed before.
    """
    package, _, last = name.rpartition(".")
    if name in sys.modules or (package and package not in sys.modules):
        return
    spec: Any = PathFinder.find_spec(name, sys.modules[package].__path__ if package else None)
    if spec is None or spec.loader is None:
        return
    module: Any = _Postponed(name)
    attributes = {
        "__file__": spec.origin,
        "__loader__": spec.loader,
        "__package__": spec.parent,
        "__spec__": spec,
    }
    if spec.submodule_search_locations is not None:
        attributes["__path__"] = spec.submodule_search_locations
    module.__dict__.update(attributes)
    sys.modules[name] = module
    if package:
        # Its package has it as an attribute, as if it had been imported, and is not run for that.
        sys.modules[package].__dict__[last] = module


def when_run(name: str, then: Callable[[], object]) -> bool:
    """Has something called when a postponed module has been run.

    Returns:
        Whether it is postponed.
    """
    with _ModuleLockManager(name):
        if type(sys.modules.get(name)) is not _Postponed:
            return False
        _afterwards[name] = then
        return True


_running: set[str] = set()
_afterwards: dict[str, Callable[[], object]] = {}


class _Postponed(ModuleType):
    """A module that has not been run. When it has, it is one like any other."""

    def __getattr__(self, name: str) -> Any:
        _run(self)
        return ModuleType.__getattribute__(self, name)

    def __setattr__(self, name: str, value: object) -> None:
        _run(self)
        ModuleType.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        _run(self)
        ModuleType.__delattr__(self, name)

    def __dir__(self) -> list[str]:
        _run(self)
        return list(ModuleType.__dir__(self))


def _run(module: ModuleType) -> None:
    name = module.__name__
    then = None
    try:
        # The lock under which it would be imported, and no other: a thread that imports something
        # may want what this one runs, while this one waits for that import.
        with _ModuleLockManager(name):
            # It may ask for something of itself while it runs.
            if type(module) is not _Postponed or name in _running:
                return
            _running.add(name)
            try:
                module.__spec__.loader.exec_module(module)  # type: ignore[union-attr]
                ModuleType.__setattr__(module, "__class__", ModuleType)
            finally:
                _running.discard(name)
            then = _afterwards.pop(name, None)
    except _DeadlockError:
        # Just that has happened, and the import system has noticed. As it does itself, it is left
        # at what the module has by now.
        return
    if then is not None:
        then()
